//! Options changed at run time (S40).

use super::super::Node;
use super::super::command::{Command, Outcome};
use super::super::effect::LogLevel;
use super::super::state::Conn;
use super::{code, unknown_minor};
use crate::config::options::{DiskOptions, NetOptions};

impl Node {
    /// `disk-options`, `net-options` and `resource-options`.
    pub(super) fn change_options(&mut self, command: &Command) -> Outcome {
        match command {
            Command::ChangeDiskOptions { volume, options } => {
                let Some(v) = self.volumes.get_mut(volume) else { return unknown_minor() };
                let connected = v.state.conn >= Conn::Connected;
                let Some(disk) = v.disk.as_deref_mut() else { return Outcome::of(code::NO_DISK) };
                // The extents that are hot now would not be in the log on disk, or the superblock would
                // not say that there is none (I13, D92).
                let (was, wanted) = (disk.options.al_updates, options.al_updates);
                disk.options = DiskOptions { al_updates: was, ..(**options).clone() };
                if was != wanted {
                    let text = "al-updates takes effect with the next attach";
                    self.say(LogLevel::Warn, Some(*volume), text);
                }
                if connected {
                    self.send_sync_param(*volume);
                }
            }
            Command::ChangeNetOptions { options } => {
                if self.link().config.is_none() {
                    return Outcome::with(code::UNKNOWN_CONNECTION, "net conf missing, try connect");
                }
                let alg = |options: &NetOptions| options.verify_alg.clone();
                let own = self.link().config.as_ref().and_then(|config| alg(&config.options));
                if own != alg(options) && self.volumes.values().any(|v| v.verify.is_some()) {
                    return Outcome::of(code::VERIFY_RUNS);
                }
                if let Err(refused) = self.check_net_options(options, false) {
                    return refused;
                }
                if let Some(config) = &mut self.link_mut().config {
                    config.options = (**options).clone();
                }
                self.tell_net_options();
            }
            Command::ChangeResourceOptions { options } => self.options = (**options).clone(),
            _ => {}
        }
        Outcome::of(Outcome::DONE)
    }

    /// Tells a connected peer the new options (W52).
    fn tell_net_options(&mut self) {
        if !self.link().is_up() || self.link().state_sent {
            return;
        }
        self.send_protocol_update();
        for volume in self.volume_ids() {
            self.send_sync_param(volume);
        }
    }
}
