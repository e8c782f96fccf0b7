//! The checked configuration: what the resolver makes, and nobody else.
//!
//! Two views stand side by side. What was *written* serves the dump; what *applies*, after
//! inheritance (C70..C77), serves the commands and, as typed options, the daemon.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::error::Report;
use super::options::{
    DiskOptions, GlobalOptions, Kind, NetOptions, OptionSpec, ResourceOptions, Section, StartupOptions,
};
use super::source::Span;

/// A whole configuration, free of errors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Canonical path of the main file.
    pub path: String,
    /// The `global` section.
    pub global: Global,
    /// The `common` section, if there is one.
    pub common: Option<Sections>,
    /// The resources, in the order of the text.
    pub resources: Vec<Resource>,
    /// Resources that urbd cannot run (stacked, over a proxy, with DRBD 9's connections), and why.
    pub unsupported: Vec<Unsupported>,
    /// What deserves a word although it is no error.
    pub warnings: Report,
}

/// The `global` section (C40).
#[derive(Clone, Debug, Default)]
pub struct Global {
    /// The options.
    pub options: GlobalOptions,
    /// Those that were written.
    pub written: Vec<Written>,
}

/// A resource that the configuration describes and urbd cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Its name.
    pub resource: String,
    /// Why not.
    pub reason: String,
}

/// An option as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Which option.
    pub spec: &'static OptionSpec,
    /// Its value: as written, a bare boolean as `yes`, the protocol in upper case; `None` for flags.
    pub value: Option<String>,
    /// Where.
    pub span: Span,
}

impl Written {
    /// The argument `--name=value` for a command; C107.
    #[must_use]
    pub fn argument(&self) -> String {
        match &self.value {
            Some(value) => format!("--{}={value}", self.spec.name),
            None => format!("--{}", self.spec.name),
        }
    }
}

/// The option sections of a resource or of `common`.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    /// `options { }`
    pub options: Vec<Written>,
    /// `net { }`
    pub net: Vec<Written>,
    /// `disk { }`
    pub disk: Vec<Written>,
    /// `startup { }`
    pub startup: Vec<Written>,
    /// `handlers { }`
    pub handlers: Vec<Written>,
    /// `proxy { }`
    pub proxy: Vec<Written>,
    /// The lines of `proxy { plugin { } }`.
    pub plugins: Vec<String>,
}

impl Sections {
    /// The options of one section.
    #[must_use]
    pub fn list(&self, section: Section) -> &[Written] {
        match section {
            Section::Options => &self.options,
            Section::Net => &self.net,
            Section::Disk => &self.disk,
            Section::Startup => &self.startup,
            Section::Handlers => &self.handlers,
            Section::Proxy => &self.proxy,
            Section::Global => &[],
        }
    }

    /// Adds an option to its section. The global ones are kept elsewhere.
    pub(super) fn push(&mut self, written: Written) {
        match written.spec.section {
            Section::Options => self.options.push(written),
            Section::Net => self.net.push(written),
            Section::Disk => self.disk.push(written),
            Section::Startup => self.startup.push(written),
            Section::Handlers => self.handlers.push(written),
            Section::Proxy => self.proxy.push(written),
            Section::Global => {}
        }
    }
}

/// A resource: the volumes that two nodes keep equal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Canonical path and line of its opening brace.
    pub defined_at: (String, u32),
    /// Its own sections, as written.
    pub written: Sections,
    /// The same with what `common` adds (C70).
    pub applied: Sections,
    /// Options of the resource as a whole.
    pub options: ResourceOptions,
    /// What start scripts wait for.
    pub startup: StartupOptions,
    /// Handlers by name (C67).
    pub handlers: BTreeMap<String, String>,
    /// The nodes.
    pub hosts: Vec<Host>,
    /// Options of the connection, save what depends on the node; [`Config::local`] gives them whole.
    pub(super) net: NetOptions,
}

/// How a host section finds its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// `on NAME { }`
    Named,
    /// `floating ADDRESS { }` (C45)
    Floating,
}

/// One node's part of a resource.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Host {
    /// How it finds its node.
    pub kind: HostKind,
    /// Its names; none when floating, several when hosts share a disk (C44).
    pub names: Vec<String>,
    /// Where it listens.
    pub address: Address,
    /// A second path of DRBD 8.4, kept for the dump (C56).
    pub alternate_address: Option<Address>,
    /// Its volumes, by number.
    pub volumes: Vec<Volume>,
    /// Whether volume 0 was written without the keyword `volume` (C75).
    pub implicit_volume: bool,
    /// A host's own `options { }`: dumped, never applied (C73).
    pub options: Vec<Written>,
    /// Where its section starts.
    pub span: Span,
}

impl Host {
    /// What to call it in messages: its names, or its address.
    #[must_use]
    pub fn label(&self) -> String {
        match self.kind {
            HostKind::Named => self.names.join(" "),
            HostKind::Floating => self.address.to_string(),
        }
    }

    /// The volume with this number.
    #[must_use]
    pub fn volume(&self, id: u16) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.id == id)
    }
}

/// One node's part of a volume.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Volume {
    /// Its number.
    pub id: u16,
    /// The replicated device.
    pub device: Device,
    /// Path of the lower disk; `None` for `disk none` (C48).
    pub disk: Option<String>,
    /// Where the metadata is.
    pub meta: MetaDisk,
    /// The options in the host's own volume section.
    pub written: Vec<Written>,
    /// All that apply, in the order of a command line (C72, C77); a `resync-after` names a resource.
    pub applied: Vec<Written>,
    /// The same, typed.
    pub disk_options: DiskOptions,
}

impl Volume {
    /// The path of the device that metadata is written to (the lower disk when internal).
    #[must_use]
    pub fn meta_path(&self) -> Option<&str> {
        match &self.meta {
            MetaDisk::Internal => self.disk.as_deref(),
            MetaDisk::Flexible(path) | MetaDisk::Indexed(path, _) => Some(path),
        }
    }

    /// The arguments `--name=value` of `attach`, in the tools' order (C77); `resync-after` as a minor.
    pub fn arguments(&self) -> impl Iterator<Item = String> {
        self.applied.iter().filter_map(|written| match written.spec.kind {
            Kind::After => {
                self.disk_options.resync_after_minor.map(|minor| format!("--{}={minor}", written.spec.name))
            }
            _ => Some(written.argument()),
        })
    }
}

/// The replicated device (C49).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its path, if one was written.
    pub name: Option<String>,
    /// Its minor number.
    pub minor: u32,
}

impl Device {
    /// Its path: the written one, or `/dev/drbd<minor>` (C50).
    #[must_use]
    pub fn path(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("/dev/drbd{}", self.minor))
    }
}

/// Where the metadata is (C53).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaDisk {
    /// At the end of the lower disk.
    Internal,
    /// The whole of this device.
    Flexible(String),
    /// The slot of 128 MiB with this number on this device.
    Indexed(String, u32),
}

impl MetaDisk {
    /// The last argument of `attach` (C54): `internal`, `flexible` or the slot.
    #[must_use]
    pub fn attach_index(&self) -> String {
        match self {
            Self::Internal => "internal".to_owned(),
            Self::Flexible(_) => "flexible".to_owned(),
            Self::Indexed(_, slot) => slot.to_string(),
        }
    }

    /// The index argument of `drbdmeta` (C54): `internal`, `flex-external` or the slot.
    #[must_use]
    pub fn drbdmeta_index(&self) -> String {
        match self {
            Self::Flexible(_) => "flex-external".to_owned(),
            Self::Internal | Self::Indexed(..) => self.attach_index(),
        }
    }
}

/// The kind of an address (C55).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// TCP over IPv4.
    Ipv4,
    /// TCP over IPv6.
    Ipv6,
    /// InfiniBand's sockets direct protocol; urbd cannot use it.
    Sdp,
    /// SuperSockets, also written `sci`; urbd cannot use it.
    Ssocks,
}

impl Family {
    /// The keyword.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Sdp => "sdp",
            Self::Ssocks => "ssocks",
        }
    }
}

/// Where a node listens for its peer (C55).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The kind.
    pub family: Family,
    /// The address.
    pub ip: IpAddr,
    /// The interface behind `%` of a link-local IPv6 address.
    pub scope: Option<String>,
    /// The port, never 0.
    pub port: u16,
    /// The address as written, without the port.
    pub text: String,
}

impl Address {
    /// Address and port, without the scope.
    #[must_use]
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// As in files: `ipv4 10.1.1.31:7789`, `ipv6 [fd00::1]:7789`.
    #[must_use]
    pub fn file_form(&self) -> String {
        format!("{} {}", self.family.as_str(), self.host_and_port())
    }

    fn host_and_port(&self) -> String {
        match self.family {
            Family::Ipv6 => format!("[{}]:{}", self.text, self.port),
            Family::Ipv4 | Family::Sdp | Family::Ssocks => format!("{}:{}", self.text, self.port),
        }
    }
}

/// As on command lines: `ipv4:10.1.1.31:7789`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family.as_str(), self.host_and_port())
    }
}
