//! The peer's protocol, DRBD 8.4 versions 86 to 101: bytes to packets and back. Pure, no I/O.
//!
//! - [`header`]: the three header formats and the command numbers
//! - [`packet`]: one [`Packet`] variant for every command, with typed content
//! - [`codec`]: [`encode`] and the incremental [`decode`]; every length is checked before use
//! - [`bitmap_code`]: the exchange of the out-of-sync bitmaps, plain and compressed
//! - [`auth`], [`digest`]: challenge-response and digests of block data
//! - [`error`]: what can be wrong with received bytes, and what to do about it
//!
//! Block data is never part of a [`Packet`]: it follows the packet in the stream, and the caller
//! moves it straight between the socket and an aligned buffer.

pub mod auth;
pub mod bitmap_code;
pub mod codec;
pub mod digest;
mod emit;
pub mod error;
pub mod header;
pub mod packet;
mod parse;
mod raw;
mod vli;

pub use bitmap_code::{BitmapReceiver, BitmapSender, SetBits};
pub use codec::{Decoded, Dialect, decode, encode};
pub use error::{Phase, Reaction, WireError};
pub use header::{Command, Socket};
pub use packet::{BlockAck, BlockId, BlockRange, BlockRequest, DpFlags, Packet, StateWord};
