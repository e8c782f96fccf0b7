//! The `sh-*` commands that ask nothing but the configuration (L50..L54), as text for scripts.

use std::fmt::Write;

use super::dump::quote;
use super::model::{Config, Host, Resource, Volume};
use super::select::Node;

/// A per-volume query; each prints one line a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeQuery {
    /// `sh-dev`: path of the replicated device.
    Device,
    /// `sh-minor`: its minor number.
    Minor,
    /// `sh-ll-dev`: path of the lower disk, `none` without one.
    LowerDevice,
    /// `sh-md-dev`: path of the metadata device.
    MetaDevice,
    /// `sh-md-idx`: `internal`, `flexible` or the slot.
    MetaIndex,
    /// `sh-ip`: the node's own address.
    Ip,
}

impl VolumeQuery {
    /// The command's name.
    #[must_use]
    pub const fn command(self) -> &'static str {
        match self {
            Self::Device => "sh-dev",
            Self::Minor => "sh-minor",
            Self::LowerDevice => "sh-ll-dev",
            Self::MetaDevice => "sh-md-dev",
            Self::MetaIndex => "sh-md-idx",
            Self::Ip => "sh-ip",
        }
    }

    /// The query behind a command's name.
    #[must_use]
    pub fn from_command(command: &str) -> Option<Self> {
        [Self::Device, Self::Minor, Self::LowerDevice, Self::MetaDevice, Self::MetaIndex, Self::Ip]
            .into_iter()
            .find(|query| query.command() == command)
    }

    /// The answer for one volume of `host`, without a line break. `None` where a local disk is needed
    /// and there is none (L52).
    #[must_use]
    pub fn answer(self, host: &Host, volume: &Volume) -> Option<String> {
        match self {
            Self::Device => Some(volume.device.path()),
            Self::Minor => Some(volume.device.minor.to_string()),
            Self::LowerDevice => Some(volume.disk.clone().unwrap_or_else(|| "none".to_owned())),
            Self::MetaDevice => {
                volume.disk.as_ref()?;
                volume.meta_path().map(str::to_owned)
            }
            Self::MetaIndex => volume.disk.as_ref().map(|_| volume.meta.attach_index()),
            Self::Ip => Some(host.address.text.clone()),
        }
    }
}

/// `sh-resources`: this node's resources on one line, as 8.4 prints it; nothing for none (L51).
#[must_use]
pub fn resources(config: &Config, node: &Node) -> String {
    let names: Vec<String> = config.here(node).map(|resource| quote(&resource.name)).collect();
    if names.is_empty() { String::new() } else { format!("{}\n", names.join(" ")) }
}

/// `sh-mod-parms`: how many devices to prepare for (L53).
#[must_use]
pub fn mod_parms(config: &Config, node: &Node) -> String {
    let given = config.global.written.iter().any(|written| written.spec.name == "minor-count");
    let count = if given {
        config.global.options.minor_count
    } else {
        let hosts = config.here(node).filter_map(|resource| resource.host(node).ok());
        let volumes: usize = hosts.map(|host| host.volumes.len()).sum();
        u32::try_from(volumes + 3).unwrap_or(u32::MAX).clamp(32, 255)
    };
    format!("minor_count={count}\n")
}

/// `sh-udev` for one volume: what 8.4's udev rules read (L54).
#[must_use]
pub fn udev(config: &Config, resource: &Resource, host: &Host, volume: &Volume) -> String {
    let implicit = host.implicit_volume && !config.global.options.udev_always_use_vnr;
    let mut out = format!("RESOURCE={}", resource.name);
    if !implicit {
        let _ = write!(out, "/{}", volume.id);
    }
    let device = volume.device.path();
    let _ = writeln!(out, "\nDEVICE={}", device.strip_prefix("/dev/").unwrap_or(&device));
    if let Some(disk) = &volume.disk {
        let _ = writeln!(out, "DISK={}", disk.strip_prefix("/dev/").unwrap_or(disk));
    }
    out
}
