//! Options as they come over the control socket, turned into the core's structs (C66).

use crate::config::options::{DiskOptions, NetOptions, OptionError, ResourceOptions};
use crate::control::messages::Options;
use crate::node::command::Outcome;

/// Net options.
///
/// # Errors
/// Outcome 126 with what is wrong.
pub(super) fn net(pairs: &Options) -> Result<NetOptions, Outcome> {
    let mut options = NetOptions::default();
    set_all(pairs, |name, value| options.set(name, Some(value)))?;
    Ok(options)
}

/// Disk options.
///
/// # Errors
/// Outcome 126 with what is wrong.
pub(super) fn disk(pairs: &Options) -> Result<DiskOptions, Outcome> {
    let mut options = DiskOptions::default();
    set_all(pairs, |name, value| options.set(name, Some(value)))?;
    Ok(options)
}

/// Resource options.
///
/// # Errors
/// Outcome 126 with what is wrong.
pub(super) fn resource(pairs: &Options) -> Result<ResourceOptions, Outcome> {
    let mut options = ResourceOptions::default();
    set_all(pairs, |name, value| options.set(name, Some(value)))?;
    Ok(options)
}

fn set_all(
    pairs: &Options,
    mut set: impl FnMut(&str, &str) -> Result<(), OptionError>,
) -> Result<(), Outcome> {
    for (name, value) in pairs {
        set(name, value).map_err(|error| Outcome::with(126, error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_options_and_a_wrong_one_is_named() {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        assert_eq!(net(&pair("timeout", "50")).unwrap().timeout_ds, 50);
        let refused = net(&pair("timeout", "0")).unwrap_err();
        assert_eq!(refused.code, 126);
        assert!(refused.info[0].starts_with("timeout: '0'"), "{:?}", refused.info);
        assert!(disk(&pair("timeout", "50")).is_err(), "a net option");
        assert!(resource(&pair("on-no-data-accessible", "suspend-io")).is_ok());
    }
}
