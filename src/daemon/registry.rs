//! What the supervisor knows about its resources: their threads, and how they were configured.
//!
//! A pure map with lookups by name, by minor and by addresses, which is how commands address
//! things (S36). What it says about disks and connections is what was configured; whether that still
//! holds only the core knows, see [`Entry::forget_what_ended`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::mailbox::ResourceHandle;
use crate::control::messages::{
    ConnectionConfig, MAX_MINOR, MAX_NAME_BYTES, MAX_VOLUME, ResourceConfig, VolumeConfig,
};
use crate::node::command::Outcome;
use crate::node::status::ResourceStatus;
use crate::units::VolumeId;

/// All resources of a daemon.
#[derive(Debug, Default)]
pub struct Registry {
    resources: BTreeMap<String, Entry>,
}

/// A resource.
#[derive(Debug)]
pub struct Entry {
    /// Its thread.
    pub handle: ResourceHandle,
    /// Held by the administrator's command under way (S36).
    pub admin: Arc<tokio::sync::Mutex<()>>,
    /// How it was configured.
    pub config: ResourceConfig,
    /// Volumes whose disk cannot give space back: trims are not worth sending there.
    pub without_discards: BTreeSet<u16>,
    /// Logical block sizes of the volumes' disks, in bytes.
    pub block_bytes: BTreeMap<u16, u32>,
}

/// A volume as commands address it, found.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its resource's thread.
    pub handle: ResourceHandle,
    /// Its resource's lock for commands.
    pub admin: Arc<tokio::sync::Mutex<()>>,
    /// Its number; 0 where the resource is meant.
    pub volume: VolumeId,
}

impl Registry {
    /// All resources, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.resources.values()
    }

    /// The resource of this name.
    #[must_use]
    pub fn get(&self, resource: &str) -> Option<&Entry> {
        self.resources.get(resource)
    }

    /// The resource of this name, to be changed.
    pub fn get_mut(&mut self, resource: &str) -> Option<&mut Entry> {
        self.resources.get_mut(resource)
    }

    /// Adds a resource whose thread has been started.
    pub fn insert(&mut self, handle: ResourceHandle, config: ResourceConfig) {
        let (admin, without_discards) = (Arc::default(), BTreeSet::new());
        self.resources.insert(
            config.name.clone(),
            Entry { handle, admin, config, without_discards, block_bytes: BTreeMap::new() },
        );
    }

    /// Forgets resources whose thread has ended by itself; their names.
    pub fn bury_dead(&mut self) -> Vec<String> {
        let dead = self.resources.extract_if(.., |_, entry| entry.handle.has_ended());
        dead.map(|(name, _)| name).collect()
    }

    /// Forgets a resource.
    pub fn remove(&mut self, resource: &str) -> Option<Entry> {
        self.resources.remove(resource)
    }

    /// The resource of this name, or 158 (S36).
    ///
    /// # Errors
    /// The outcome for the caller.
    pub fn resource(&self, resource: &str) -> Result<Target, Outcome> {
        let entry = self.get(resource).ok_or_else(|| Outcome::with(158, "unknown resource"))?;
        Ok(entry.target(VolumeId(0)))
    }

    /// The volume with this device number, or 127 (S36).
    ///
    /// # Errors
    /// The outcome for the caller.
    pub fn minor(&self, minor: u32) -> Result<Target, Outcome> {
        self.resources
            .values()
            .find_map(|entry| {
                let volume = entry.config.volumes.iter().find(|volume| volume.minor == minor)?;
                Some(entry.target(VolumeId(volume.volume)))
            })
            .ok_or_else(|| Outcome::with(127, "unknown minor"))
    }

    /// The connection between these addresses, or 162 (S36).
    ///
    /// # Errors
    /// The outcome for the caller.
    pub fn connection(&self, local: SocketAddr, peer: SocketAddr) -> Result<Target, Outcome> {
        let between = |connection: &ConnectionConfig| connection.local == local && connection.peer == peer;
        self.resources
            .values()
            .find(|entry| entry.config.connection.as_ref().is_some_and(between))
            .map(|entry| entry.target(VolumeId(0)))
            .ok_or_else(|| Outcome::with(162, "unknown connection"))
    }

    /// Whether a connection may use these addresses: 102 and 103 of S39, over all resources.
    ///
    /// # Errors
    /// The outcome for the caller.
    pub fn addresses_are_free(&self, local: SocketAddr, peer: SocketAddr) -> Result<(), Outcome> {
        let used = |matches: &dyn Fn(&ConnectionConfig) -> bool| {
            let entry = self.entries().find(|entry| entry.config.connection.as_ref().is_some_and(matches));
            entry.map(|entry| entry.config.name.clone())
        };
        if let Some(resource) = used(&|connection| connection.local == local) {
            return Err(Outcome::with(102, format!("resource {resource} uses {local}")));
        }
        if let Some(resource) = used(&|connection| connection.peer == peer) {
            return Err(Outcome::with(103, format!("resource {resource} uses {peer}")));
        }
        Ok(())
    }

    /// Whether the resource can get this volume under this device number: 158, 161 or 162 if not.
    ///
    /// # Errors
    /// The outcome for the caller.
    pub fn volume_is_free(&self, resource: &str, minor: u32, volume: u16) -> Result<Target, Outcome> {
        let target = self.resource(resource)?;
        if minor > MAX_MINOR {
            return Err(Outcome::with(162, format!("minor {minor} is above {MAX_MINOR}")));
        }
        if volume > MAX_VOLUME {
            return Err(Outcome::with(162, format!("volume {volume} is above {MAX_VOLUME}")));
        }
        if let Some(entry) =
            self.entries().find(|entry| entry.config.volumes.iter().any(|v| v.minor == minor))
        {
            return Err(Outcome::with(161, format!("resource {} has minor {minor}", entry.config.name)));
        }
        let volumes = self.get(resource).map_or(&[][..], |entry| &entry.config.volumes);
        if volumes.iter().any(|known| known.volume == volume) {
            return Err(Outcome::with(161, format!("resource {resource} has volume {volume}")));
        }
        Ok(Target { volume: VolumeId(volume), ..target })
    }
}

impl Entry {
    /// How commands reach one of its volumes.
    #[must_use]
    pub fn target(&self, volume: VolumeId) -> Target {
        Target { handle: self.handle.clone(), admin: Arc::clone(&self.admin), volume }
    }

    /// The configuration of one of its volumes.
    pub fn volume_mut(&mut self, volume: VolumeId) -> Option<&mut VolumeConfig> {
        self.config.volumes.iter_mut().find(|known| known.volume == volume.0)
    }

    /// Drops the addresses of a connection that is StandAlone (S36), and the disks of volumes that
    /// are Diskless, whatever the reason was.
    pub fn forget_what_ended(&mut self, status: &ResourceStatus) {
        if status.cstate == "StandAlone" {
            self.config.connection = None;
        }
        for volume in &mut self.config.volumes {
            let found = status.volumes.iter().find(|found| found.volume == volume.volume);
            if found.is_some_and(|found| found.disk == "Diskless") {
                volume.disk = None;
            }
        }
    }
}

/// Whether a resource may have this name (C43): one that can be addressed on every command line.
///
/// # Errors
/// Outcome 162 with the reason.
pub fn check_name(name: &str) -> Result<(), Outcome> {
    let why = if name.is_empty() {
        "a resource name cannot be empty"
    } else if name.len() > MAX_NAME_BYTES {
        "a resource name has at most 128 bytes"
    } else if name == "all" || name.starts_with('-') || name.starts_with("minor-") {
        "'all', '-…' and 'minor-…' mean something else on command lines"
    } else if name.contains(['/', ':']) || name.chars().any(char::is_control) {
        "a resource name has no '/', no ':' and no control characters"
    } else {
        return Ok(());
    };
    Err(Outcome::with(162, why))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::super::mailbox::Mailbox;
    use super::*;
    use crate::node::status::VolumeStatus;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// r0 with volumes 0 (minor 1) and 1 (minor 2), connected from .1 to .2; r1 without anything.
    fn registry() -> Registry {
        let (notices, _) = mpsc::unbounded_channel();
        let mut registry = Registry::default();
        for name in ["r0", "r1"] {
            let (_, handle) = Mailbox::new(name, notices.clone()).unwrap();
            registry.insert(handle, ResourceConfig { name: name.into(), ..ResourceConfig::default() });
        }
        let r0 = registry.get_mut("r0").unwrap();
        r0.config.volumes =
            [(0, 1), (1, 2)].map(|(volume, minor)| VolumeConfig { volume, minor, disk: None }).into();
        let (local, peer) = (addr("10.0.0.1:7788"), addr("10.0.0.2:7788"));
        r0.config.connection = Some(ConnectionConfig { local, peer, options: Vec::new() });
        registry
    }

    #[test]
    fn what_is_not_there_has_the_number_of_its_kind() {
        let registry = registry();
        assert_eq!(registry.minor(2).unwrap().volume, VolumeId(1));
        assert_eq!(registry.minor(3).unwrap_err().code, 127);
        assert_eq!(registry.resource("r2").unwrap_err().code, 158);
        let (local, peer) = (addr("10.0.0.1:7788"), addr("10.0.0.2:7788"));
        assert_eq!(registry.connection(local, peer).unwrap().handle.name(), "r0");
        assert_eq!(registry.connection(peer, local).unwrap_err().code, 162);
    }

    #[test]
    fn addresses_and_minors_are_unique_over_all_resources() {
        let registry = registry();
        let code = |local, peer| registry.addresses_are_free(addr(local), addr(peer)).map_err(|o| o.code);
        assert_eq!(code("10.0.0.1:7788", "10.0.0.2:7788"), Err(102));
        assert_eq!(code("10.0.0.1:7789", "10.0.0.2:7788"), Err(103));
        assert_eq!(code("10.0.0.1:7789", "10.0.0.2:7789"), Ok(()));
        let code = |name, minor, volume| {
            registry.volume_is_free(name, minor, volume).map(|target| target.volume.0).map_err(|o| o.code)
        };
        assert_eq!(code("r1", 2, 0), Err(161));
        assert_eq!(code("r0", 3, 1), Err(161));
        assert_eq!(code("r1", 3, 1), Ok(1));
        assert_eq!(code("r1", MAX_MINOR + 1, 1), Err(162));
        assert_eq!(code("r1", 4, MAX_VOLUME + 1), Err(162));
        assert_eq!(code("r2", 3, 0), Err(158));
    }

    #[test]
    fn a_standalone_connection_has_no_addresses_any_more() {
        let mut registry = registry();
        let status = ResourceStatus {
            cstate: "StandAlone".into(),
            volumes: vec![VolumeStatus { disk: "Diskless".into(), ..VolumeStatus::default() }],
            ..ResourceStatus::default()
        };
        registry.get_mut("r0").unwrap().forget_what_ended(&status);
        assert!(registry.addresses_are_free(addr("10.0.0.1:7788"), addr("10.0.0.2:7788")).is_ok());
    }

    #[test]
    fn a_resource_whose_thread_died_does_not_stand_in_the_way_of_the_next() {
        let (notices, _) = mpsc::unbounded_channel();
        let (mailbox, handle) = Mailbox::new("r0", notices).unwrap();
        let mut registry = Registry::default();
        registry.insert(handle, ResourceConfig { name: "r0".into(), ..ResourceConfig::default() });
        assert_eq!(registry.bury_dead(), [""; 0]);
        drop(mailbox);
        assert_eq!(registry.bury_dead(), ["r0"]);
        assert_eq!(registry.resource("r0").unwrap_err().code, 158);
    }

    #[test]
    fn names_that_cannot_be_addressed_are_refused() {
        for name in ["", "all", "a/0", "r:x", "-d", "minor-1", "a\nb", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["r0", "my res", "r-1.x_y", "é"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }
}
