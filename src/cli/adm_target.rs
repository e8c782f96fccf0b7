//! What the words behind a command of `urbdadm` mean (L26 to L30).

use std::net::{IpAddr, UdpSocket};

use super::adm_verbs::{Scope, Verb};
use super::codes::exit;
use super::plan;
use crate::config::{Config, Host, HostKind, Node, Resource, SelectError, Volume};

/// A resource, or one volume of it, on this node.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    /// The word that named it.
    word: String,
    /// The resource.
    pub(super) config: &'a Resource,
    /// This node's section.
    pub(super) host: &'a Host,
    /// The peer's section, or why there is none.
    peer: Result<&'a Host, SelectError>,
    /// What plans need of it.
    pub(super) view: plan::Resource,
    /// The volume, if one was named.
    pub(super) only: Option<u16>,
}

/// What is wrong with a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetFault {
    /// The empty word.
    #[error("Resource name is empty.")]
    Empty,
    /// No such resource, volume or device here.
    #[error("'{0}' not defined in your config (for this host).")]
    Unknown(String),
    /// Not a number where one must be.
    #[error("{0} is not a valid number")]
    NotANumber(String),
    /// Nothing where a number must be.
    #[error("missing number argument")]
    NoNumber,
    /// A volume where a resource must be.
    #[error("{verb} operates on whole resources, but you specified a specific volume!")]
    WholeResource {
        /// The command.
        verb: &'static str,
    },
    /// A resource where a volume must be.
    #[error(
        "{verb} requires a specific volume id, but none is specified.\n\
         Try '{verb} minor-<minor_number>' or '{verb} {resource}/<vnr>'"
    )]
    OneVolume {
        /// The command.
        verb: &'static str,
        /// The resource.
        resource: String,
    },
    /// No resource has a section for this node (C80).
    #[error(
        "WARN: no normal resources defined for this host ({node})!?\n\
         Misspelled name of the local machine with the 'on' keyword ?"
    )]
    NoneHere {
        /// This node.
        node: String,
    },
    /// No resource at all (C80).
    #[error("no resources defined!")]
    NoneAtAll,
    /// The configuration does not tell.
    #[error("{0}")]
    Select(#[from] SelectError),
    /// There is nobody to talk to.
    #[error("in resource {resource}:\n\tMissing section 'on <PEER> {{ ... }}'.")]
    NoPeer {
        /// The resource.
        resource: String,
    },
    /// The address is another machine's (C83).
    #[error("{place}: in resource {resource}, on {node}:\n\tIP {ip} not found on this host.")]
    ForeignAddress {
        /// File and line of the resource.
        place: String,
        /// The resource.
        resource: String,
        /// The host section.
        node: String,
        /// The address.
        ip: IpAddr,
    },
}

impl TargetFault {
    /// The exit code for it (L7, L27).
    #[must_use]
    pub(super) const fn exit_code(&self) -> i32 {
        match self {
            Self::Empty
            | Self::Unknown(_)
            | Self::WholeResource { .. }
            | Self::OneVolume { .. }
            | Self::NoneHere { .. }
            | Self::NoneAtAll
            | Self::Select(SelectError::NotDefined { .. }) => exit::USAGE,
            Self::Select(_) | Self::NoPeer { .. } | Self::ForeignAddress { .. } => exit::REJECTED,
            Self::NotANumber(_) => exit::OTHER,
            Self::NoNumber => 100,
        }
    }
}

/// What `all` means (L29).
///
/// # Errors
/// When that is nothing.
pub(super) fn all<'a>(
    config: &'a Config,
    node: &Node,
    peer: Option<&str>,
) -> Result<Vec<Target<'a>>, TargetFault> {
    if config.resources.is_empty() {
        return Err(TargetFault::NoneAtAll);
    }
    let here = config.resources.iter().filter(|resource| resource.is_on(node));
    let targets: Result<Vec<_>, _> =
        here.map(|resource| Target::new(&resource.name, resource, node, peer, None)).collect();
    match targets {
        Ok(targets) if targets.is_empty() => Err(TargetFault::NoneHere { node: node.name.clone() }),
        other => other,
    }
}

/// What a word means: `NAME`, `NAME/VOLUME` or `minor-N`.
///
/// # Errors
/// [`TargetFault`].
pub(super) fn find<'a>(
    word: &str,
    config: &'a Config,
    node: &Node,
    peer: Option<&str>,
) -> Result<Target<'a>, TargetFault> {
    let unknown = || TargetFault::Unknown(word.to_owned());
    if word.is_empty() {
        return Err(TargetFault::Empty);
    }
    if let Some(minor) = word.strip_prefix("minor-") {
        let (resource, volume) = config.by_minor(number(minor)?, node).ok_or_else(unknown)?;
        return Target::new(word, resource, node, peer, Some(volume.id));
    }
    let (name, volume) = match word.split_once('/') {
        Some((name, volume)) => (name, Some(number(volume)?)),
        None => (word, None),
    };
    if let Some(known) = config.unsupported.iter().find(|known| known.resource == name) {
        let (resource, reason) = (known.resource.clone(), known.reason.clone());
        return Err(SelectError::Unsupported { resource, reason }.into());
    }
    let resource = config.resources.iter().find(|resource| resource.name == name).ok_or_else(unknown)?;
    if !resource.is_on(node) {
        return Err(unknown());
    }
    let only = volume.map(|volume| u16::try_from(volume).map_err(|_| unknown())).transpose()?;
    let target = Target::new(word, resource, node, peer, only)?;
    if only.is_some_and(|only| target.host.volume(only).is_none()) {
        return Err(unknown());
    }
    Ok(target)
}

fn number(text: &str) -> Result<u32, TargetFault> {
    if text.is_empty() {
        return Err(TargetFault::NoNumber);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| TargetFault::NotANumber(text.to_owned()))
}

impl<'a> Target<'a> {
    fn new(
        word: &str,
        config: &'a Resource,
        node: &Node,
        peer: Option<&str>,
        only: Option<u16>,
    ) -> Result<Self, TargetFault> {
        let host = config.host(node)?;
        let local = config.for_node(node, peer);
        let view = plan::Resource {
            name: config.name.clone(),
            options: config.applied.options.iter().map(|written| written.argument()).collect(),
            net: local.as_ref().map_or_else(|_| Vec::new(), |local| local.net_arguments().collect()),
            startup: local.as_ref().map_or_else(|_| Vec::new(), |local| local.wait_arguments().collect()),
            local: host.address.to_string(),
            peer: local.as_ref().ok().map(|local| local.peer.address.to_string()),
            volumes: host.volumes.iter().map(volume_view).collect(),
        };
        Ok(Self { word: word.to_owned(), config, host, peer: local.map(|local| local.peer), view, only })
    }

    /// Whether a command of this scope can be about it (L28).
    ///
    /// # Errors
    /// [`TargetFault::WholeResource`], [`TargetFault::OneVolume`].
    pub(super) fn fits(&self, verb: &Verb) -> Result<(), TargetFault> {
        let verb_name = verb.name;
        match verb.scope {
            Scope::Resources | Scope::AllByDefault if self.only.is_some() && !self.host.implicit_volume => {
                Err(TargetFault::WholeResource { verb: verb_name })
            }
            Scope::OneVolume if self.only.is_none() && !self.host.implicit_volume => {
                Err(TargetFault::OneVolume { verb: verb_name, resource: self.word.clone() })
            }
            Scope::Volumes | Scope::Resources | Scope::OneVolume | Scope::AllByDefault | Scope::None => {
                Ok(())
            }
        }
    }

    /// The volumes meant: the one named, or all.
    pub(super) fn volumes(&self) -> impl Iterator<Item = &plan::Volume> {
        self.view.volumes.iter().filter(|volume| self.only.is_none_or(|only| only == volume.volume))
    }

    /// The same, as the configuration has them.
    pub(super) fn config_volumes(&self) -> impl Iterator<Item = &'a Volume> {
        let only = self.only;
        self.host.volumes.iter().filter(move |volume| only.is_none_or(|only| only == volume.id))
    }

    /// Whether there is somebody to connect to (C92).
    ///
    /// # Errors
    /// Why not.
    pub(super) fn has_peer(&self) -> Result<(), TargetFault> {
        match &self.peer {
            Ok(_) => Ok(()),
            Err(SelectError::NoPeer { resource }) => Err(TargetFault::NoPeer { resource: resource.clone() }),
            Err(error) => Err(error.clone().into()),
        }
    }

    /// Whether this machine has the configured address (C83).
    ///
    /// # Errors
    /// [`TargetFault::ForeignAddress`].
    pub(super) fn has_address(&self) -> Result<(), TargetFault> {
        let ip = self.host.address.ip;
        if is_here(ip) {
            return Ok(());
        }
        let (file, line) = &self.config.defined_at;
        Err(TargetFault::ForeignAddress {
            place: format!("{file}:{line}"),
            resource: self.config.name.clone(),
            node: self.host.label(),
            ip,
        })
    }

    /// The peer's name.
    pub(super) fn peer_name(&self) -> String {
        let name = |peer: &&Host| peer.names.first().cloned().unwrap_or_else(|| peer.label());
        self.peer.as_ref().map_or_else(|_| "the peer".to_owned(), name)
    }

    /// What a handler finds in its environment (L107).
    #[must_use]
    pub(super) fn environment(&self, config_path: &str) -> Vec<(String, String)> {
        let list = |value: &dyn Fn(&Volume) -> String| {
            self.config_volumes().map(value).collect::<Vec<_>>().join(" ")
        };
        let mut variables = vec![
            ("DRBD_RESOURCE", self.config.name.clone()),
            ("DRBD_CONF", config_path.to_owned()),
            ("DRBD_MINOR", list(&|volume| volume.device.minor.to_string())),
        ];
        if self.only.is_some() || self.host.implicit_volume {
            variables.push(("DRBD_VOLUME", list(&|volume| volume.id.to_string())));
            variables.push(("DRBD_LL_DISK", list(&|volume| volume.disk.clone().unwrap_or_default())));
        }
        if let Ok(peer) = &self.peer {
            let name = peer.names.first().cloned().unwrap_or_else(|| peer.label());
            variables.push(("DRBD_PEER", name.clone()));
            variables.push(("DRBD_PEERS", name));
            variables.push(("DRBD_PEER_AF", peer.address.family.as_str().to_owned()));
            variables.push(("DRBD_PEER_ADDRESS", peer.address.text.clone()));
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn volume_view(volume: &Volume) -> plan::Volume {
    plan::Volume {
        volume: volume.id,
        minor: volume.device.minor,
        disk: volume.disk.clone(),
        meta: volume.meta_path().unwrap_or("none").to_owned(),
        setup_index: volume.meta.attach_index(),
        meta_index: volume.meta.drbdmeta_index(),
        options: volume.arguments().collect(),
    }
}

/// The addresses of `floating` sections that this machine has (C82).
#[must_use]
pub(super) fn floating_here(config: &Config) -> Vec<IpAddr> {
    let hosts = config.resources.iter().flat_map(|resource| &resource.hosts);
    let floating = hosts.filter(|host| host.kind == HostKind::Floating);
    floating.map(|host| host.address.ip).filter(|ip| is_here(*ip)).collect()
}

/// Whether this machine has the address: only then can a socket be bound to it.
fn is_here(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
