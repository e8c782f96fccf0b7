//! The configuration language of DRBD 8.4 (`drbd.conf`, `global_common.conf`, `*.res`), pure: text in,
//! checked values or all errors out.

pub mod options;
pub mod values;
