//! Which part of a resource is this node's, and who is its peer (C78..C82, C92).

use std::net::IpAddr;

use super::model::{Address, Config, Family, Host, HostKind, Resource, Volume};
use super::options::{AfterSb0p, NetOptions};

/// This node: what host sections are compared with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name, as `uname -n` gives it.
    pub name: String,
    /// The addresses of its interfaces, for `floating` sections.
    pub addresses: Vec<IpAddr>,
}

impl Node {
    /// A node that is recognised by its name, or by an address in its place (C82).
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), addresses: Vec::new() }
    }

    /// The same with the addresses of its interfaces.
    #[must_use]
    pub fn with_addresses(mut self, addresses: Vec<IpAddr>) -> Self {
        self.addresses = addresses;
        self
    }

    /// Whether `host` is this node's section.
    #[must_use]
    pub fn is(&self, host: &Host) -> bool {
        match host.kind {
            HostKind::Named => host.names.iter().any(|name| same_host(name, &self.name)),
            HostKind::Floating => self.addresses.contains(&host.address.ip) || self.name == host.address.text,
        }
    }
}

/// A resource as one of its nodes sees it.
#[derive(Clone, Debug)]
pub struct Local<'a> {
    /// The resource.
    pub resource: &'a Resource,
    /// This node's section.
    pub host: &'a Host,
    /// The peer's section.
    pub peer: &'a Host,
    /// Options of the connection, as this node applies them.
    pub net: NetOptions,
}

impl<'a> Local<'a> {
    /// This node's volumes.
    #[must_use]
    pub fn volumes(&self) -> &'a [Volume] {
        &self.host.volumes
    }

    /// The arguments `--name=value` of `connect`, in the tools' order (C77).
    pub fn net_arguments(&self) -> impl Iterator<Item = String> {
        self.resource.applied.net.iter().map(|written| match written.spec.name {
            "after-sb-0pri" => format!("--{}={}", written.spec.name, self.net.after_sb_0pri),
            _ => written.argument(),
        })
    }

    /// The arguments of `new-resource`.
    pub fn resource_arguments(&self) -> impl Iterator<Item = String> {
        self.resource.applied.options.iter().map(super::model::Written::argument)
    }

    /// The arguments of `wait-connect`: the timeouts of section `startup`.
    pub fn wait_arguments(&self) -> impl Iterator<Item = String> {
        let silent = ["stacked-timeouts", "become-primary-on"];
        let written = self.resource.applied.startup.iter();
        written
            .filter(move |written| !silent.contains(&written.spec.name))
            .map(super::model::Written::argument)
    }
}

/// Why there is no answer for a resource on a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// No such resource, or none for this node (C80).
    #[error("'{resource}' not defined in your config (for this host).")]
    NotDefined {
        /// The name asked for.
        resource: String,
    },
    /// The configuration has it, but urbd cannot run it.
    #[error("resource '{resource}' cannot be used: {reason}")]
    Unsupported {
        /// The resource.
        resource: String,
        /// Why.
        reason: String,
    },
    /// Two sections fit this node (C81).
    #[error("in resource '{resource}': both '{first}' and '{second}' are sections of this node")]
    Twice {
        /// The resource.
        resource: String,
        /// One section.
        first: String,
        /// The other one.
        second: String,
    },
    /// This node is alone in the resource (C92).
    #[error("in resource '{resource}': the section 'on <PEER> {{ ... }}' is missing")]
    NoPeer {
        /// The resource.
        resource: String,
    },
    /// More than one node could be the peer (C92).
    #[error("in resource '{resource}': {} nodes could be the peer ({}); select one with --peer", peers.len(), peers.join(", "))]
    ManyPeers {
        /// The resource.
        resource: String,
        /// All of them.
        peers: Vec<String>,
    },
    /// No section fits the selected peer (C92).
    #[error("in resource '{resource}': no host section matches --peer '{peer}'")]
    NoSuchPeer {
        /// The resource.
        resource: String,
        /// The name given.
        peer: String,
    },
    /// The selected peer is this node (C92).
    #[error("in resource '{resource}': --peer '{peer}' is this node itself")]
    PeerIsSelf {
        /// The resource.
        resource: String,
        /// The name given.
        peer: String,
    },
}

impl Config {
    /// The resource `name` as `node` sees it. `peer` selects one where there are several.
    ///
    /// # Errors
    /// [`SelectError`]: unknown here, not usable, or no single peer.
    pub fn local(&self, name: &str, node: &Node, peer: Option<&str>) -> Result<Local<'_>, SelectError> {
        if let Some(unsupported) = self.unsupported.iter().find(|unsupported| unsupported.resource == name) {
            return Err(SelectError::Unsupported {
                resource: name.to_owned(),
                reason: unsupported.reason.clone(),
            });
        }
        let resource = self.resources.iter().find(|resource| resource.name == name);
        let resource = resource.ok_or_else(|| SelectError::NotDefined { resource: name.to_owned() })?;
        resource.for_node(node, peer)
    }

    /// The resources that have a section for `node`, in the order of the text: what `all` means (C80).
    pub fn here<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().filter(|resource| resource.is_on(node))
    }

    /// The resource and the volume with this minor on `node` (`minor-N`).
    #[must_use]
    pub fn by_minor(&self, minor: u32, node: &Node) -> Option<(&Resource, &Volume)> {
        self.resources.iter().find_map(|resource| {
            let host = resource.hosts.iter().find(|host| node.is(host))?;
            let volume = host.volumes.iter().find(|volume| volume.device.minor == minor)?;
            Some((resource, volume))
        })
    }
}

impl Resource {
    /// Whether `node` has a section in it.
    #[must_use]
    pub fn is_on(&self, node: &Node) -> bool {
        self.hosts.iter().any(|host| node.is(host))
    }

    /// This node's section.
    ///
    /// # Errors
    /// None or two sections fit.
    pub fn host(&self, node: &Node) -> Result<&Host, SelectError> {
        let resource = || self.name.clone();
        let mut mine = self.hosts.iter().filter(|host| node.is(host));
        let host = mine.next().ok_or_else(|| SelectError::NotDefined { resource: resource() })?;
        match mine.next() {
            None => Ok(host),
            Some(second) => {
                Err(SelectError::Twice { resource: resource(), first: host.label(), second: second.label() })
            }
        }
    }

    /// The resource as `node` sees it; `peer` selects among several peers.
    ///
    /// # Errors
    /// [`SelectError`], save its `Unsupported` for whole resources.
    pub fn for_node(&self, node: &Node, peer: Option<&str>) -> Result<Local<'_>, SelectError> {
        let host = self.host(node)?;
        let peer = self.peer(host, node, peer)?;
        for address in [&host.address, &peer.address] {
            usable(&self.name, address)?;
        }
        Ok(Local { resource: self, host, peer, net: self.net_on(host) })
    }

    /// Options of the connection on `host`: `discard-node-NAME` becomes local or remote (C66).
    fn net_on(&self, host: &Host) -> NetOptions {
        let mut net = self.net.clone();
        let policy = self.applied.net.iter().rev().find(|written| written.spec.name == "after-sb-0pri");
        let node = policy.and_then(|written| written.value.as_deref()?.strip_prefix("discard-node-"));
        if let Some(node) = node {
            let local = host.names.iter().any(|name| name == node) || host.address.text == node;
            net.after_sb_0pri = if local { AfterSb0p::DiscardLocal } else { AfterSb0p::DiscardRemote };
        }
        net
    }

    fn peer(&self, host: &Host, node: &Node, wanted: Option<&str>) -> Result<&Host, SelectError> {
        let resource = || self.name.clone();
        let others: Vec<&Host> = self.hosts.iter().filter(|other| !std::ptr::eq(*other, host)).collect();
        match (others.as_slice(), wanted) {
            ([], _) => Err(SelectError::NoPeer { resource: resource() }),
            ([peer], _) => Ok(peer), // `--peer` is looked at with more than two hosts only (C92).
            (_, None) => Err(SelectError::ManyPeers {
                resource: resource(),
                peers: others.iter().map(|other| other.label()).collect(),
            }),
            (_, Some(wanted)) => {
                let peer = Node { name: wanted.to_owned(), addresses: Vec::new() };
                if peer.is(host) || same_host(wanted, &node.name) {
                    return Err(SelectError::PeerIsSelf { resource: resource(), peer: wanted.to_owned() });
                }
                let found = others.into_iter().find(|other| peer.is(other));
                found.ok_or_else(|| SelectError::NoSuchPeer { resource: resource(), peer: wanted.to_owned() })
            }
        }
    }
}

/// Host names are equal whatever their case; a short one equals the first part of a full one (C79).
#[must_use]
pub fn same_host(a: &str, b: &str) -> bool {
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    if a.contains('.') == b.contains('.') {
        a.eq_ignore_ascii_case(b)
    } else {
        first(a).eq_ignore_ascii_case(&first(b))
    }
}

fn usable(resource: &str, address: &Address) -> Result<(), SelectError> {
    match address.family {
        Family::Ipv4 | Family::Ipv6 => Ok(()),
        Family::Sdp | Family::Ssocks => Err(SelectError::Unsupported {
            resource: resource.to_owned(),
            reason: format!("addresses of family {} are not TCP", address.family.as_str()),
        }),
    }
}
