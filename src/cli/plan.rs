//! From configuration, options and running state to a list of helper calls, pure (L32, L42, L46).
//!
//! What `-d` prints and what a live run executes come from the same plan. A call is a list of words,
//! as `urbdsetup` and `urbdmeta` take them.

use crate::control::messages::ResourceConfig;

/// A resource as this node sees it: what the plans need of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Arguments of `new-resource`, `--name=value` each, in the tools' order (C77).
    pub options: Vec<String>,
    /// Arguments of `connect`.
    pub net: Vec<String>,
    /// Arguments of the waits.
    pub startup: Vec<String>,
    /// Own address as on command lines.
    pub local: String,
    /// The peer's; `None` without a peer section (L36).
    pub peer: Option<String>,
    /// The volumes, by number.
    pub volumes: Vec<Volume>,
}

/// A volume as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Its number.
    pub volume: u16,
    /// Its device number.
    pub minor: u32,
    /// Path of the disk; `None` for a diskless volume.
    pub disk: Option<String>,
    /// Path of the metadata device, that of the disk if internal.
    pub meta: String,
    /// Where the metadata is, in `drbdsetup`'s words.
    pub setup_index: String,
    /// The same in `drbdmeta`'s words.
    pub meta_index: String,
    /// Arguments of `attach`.
    pub options: Vec<String>,
}

/// Which helper a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// `urbdsetup`.
    Setup,
    /// `urbdmeta`.
    Meta,
    /// `/bin/sh`.
    Shell,
}

/// A helper call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The helper.
    pub program: Program,
    /// Its words.
    pub words: Vec<String>,
    /// The resource it is for.
    pub resource: String,
}

/// A call that stands in a stage of `up` or `adjust` (L42, L43).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The call.
    pub call: Call,
    /// What depends on it.
    pub weight: Weight,
}

/// What the failure of a staged call prevents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// All further calls of its resource.
    Prerequisite,
    /// The attach of this device.
    ApplyAl(u32),
    /// It is that attach.
    Attach(u32),
    /// Nothing in its stage.
    Plain,
}

/// Calls between which a failure does not matter, to be followed by no other stage if one failed.
pub type Stage = Vec<Staged>;

/// Options and words from the command line, to stand behind the configured ones (L20).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    words: Vec<String>,
}

impl Extra {
    /// These words, each with its value.
    #[must_use]
    pub const fn new(words: Vec<String>) -> Self {
        Self { words }
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Those that this `urbdsetup` command takes.
    #[must_use]
    pub fn for_setup(&self, verb: &str) -> Vec<String> {
        let Some(verb) = super::setup_verbs::find(verb) else { return Vec::new() };
        let names: Vec<_> = verb.options().map(|option| option.name).collect();
        let name =
            |word: &str| word.trim_start_matches("--").split('=').next().unwrap_or_default().to_owned();
        self.words.iter().filter(|word| names.contains(&name(word).as_str())).cloned().collect()
    }
}

impl Resource {
    /// An `urbdsetup` call with these words.
    #[must_use]
    pub fn setup<S: Into<String>>(&self, words: impl IntoIterator<Item = S>, more: &[String]) -> Call {
        let words = words.into_iter().map(Into::into).chain(more.iter().cloned()).collect();
        Call { program: Program::Setup, words, resource: self.name.clone() }
    }

    /// An `urbdmeta` call about a volume.
    #[must_use]
    pub fn meta(&self, volume: &Volume, command: &str, more: &[String]) -> Call {
        let minor = volume.minor.to_string();
        let words = [&minor, "v08", volume.meta.as_str(), volume.meta_index.as_str(), command];
        let words = words.into_iter().map(str::to_owned).chain(more.iter().cloned()).collect();
        Call { program: Program::Meta, words, resource: self.name.clone() }
    }

    /// `new-resource`.
    #[must_use]
    pub fn new_resource(&self, extra: &Extra) -> Call {
        let more: Vec<_> = self.options.iter().cloned().chain(extra.for_setup("new-resource")).collect();
        self.setup(["new-resource", &self.name], &more)
    }

    /// `new-minor`.
    #[must_use]
    pub fn new_minor(&self, volume: &Volume) -> Call {
        let (minor, number) = (volume.minor.to_string(), volume.volume.to_string());
        self.setup(["new-minor", &self.name, &minor, &number], &[])
    }

    /// `attach`.
    #[must_use]
    pub fn attach(&self, volume: &Volume, extra: &Extra) -> Call {
        let more: Vec<_> = volume.options.iter().cloned().chain(extra.for_setup("attach")).collect();
        let minor = volume.minor.to_string();
        let disk = volume.disk.as_deref().unwrap_or("none");
        self.setup(["attach", &minor, disk, &volume.meta, &volume.setup_index], &more)
    }

    /// `connect`; `None` without a peer (C92).
    #[must_use]
    pub fn connect(&self, extra: &Extra) -> Option<Call> {
        let more: Vec<_> = self.net.iter().cloned().chain(extra.for_setup("connect")).collect();
        Some(self.setup(["connect", &self.name, &self.local, self.peer.as_ref()?], &more))
    }

    /// A command about the pair of addresses.
    #[must_use]
    pub fn connection(&self, verb: &str, more: &[String]) -> Option<Call> {
        Some(self.setup([verb, &self.local, self.peer.as_ref()?], more))
    }

    /// A command about a device.
    #[must_use]
    pub fn minor(&self, verb: &str, volume: &Volume, more: &[String]) -> Call {
        self.setup([verb.to_owned(), volume.minor.to_string()], more)
    }

    /// `resize`, which takes the configured size only (C77).
    #[must_use]
    pub fn resize(&self, volume: &Volume, extra: &[String]) -> Call {
        let size = volume.options.iter().filter(|option| option.starts_with("--size="));
        let more: Vec<_> = size.chain(extra).cloned().collect();
        self.minor("resize", volume, &more)
    }

    fn attach_both(&self, volume: &Volume, extra: &Extra) -> Vec<Staged> {
        if volume.disk.is_none() {
            return Vec::new();
        }
        let minor = volume.minor;
        vec![
            Staged { call: self.meta(volume, "apply-al", &[]), weight: Weight::ApplyAl(minor) },
            Staged { call: self.attach(volume, extra), weight: Weight::Attach(minor) },
        ]
    }
}

/// The calls of `up`, in its three stages (L42). `volume` limits a resource to one of its volumes.
#[must_use]
pub fn up(resources: &[(&Resource, Option<u16>)], extra: &Extra) -> Vec<Stage> {
    let prerequisite = |call| Staged { call, weight: Weight::Prerequisite };
    let (mut prepare, mut disks, mut net) = (Stage::new(), Stage::new(), Stage::new());
    for (resource, only) in resources {
        let volumes =
            || resource.volumes.iter().filter(|volume| only.is_none_or(|only| only == volume.volume));
        prepare.push(prerequisite(resource.new_resource(extra)));
        prepare.extend(volumes().map(|volume| prerequisite(resource.new_minor(volume))));
        disks.extend(volumes().flat_map(|volume| resource.attach_both(volume, extra)));
        net.extend(resource.connect(extra).map(|call| Staged { call, weight: Weight::Plain }));
    }
    vec![prepare, disks, net]
}

/// The calls of `adjust`: only what differs from what runs (L46, L46a). `running` is what the daemon
/// says of each resource, in the same order; `None`: it is not running.
#[must_use]
pub fn adjust(resources: &[&Resource], running: &[Option<ResourceConfig>], extra: &Extra) -> Vec<Stage> {
    let mut stages: [Stage; 5] = Default::default();
    for (resource, running) in resources.iter().zip(running) {
        let [create, options, minors, disks, net] = &mut stages;
        let fresh = ResourceConfig { name: resource.name.clone(), ..ResourceConfig::default() };
        if running.is_none() {
            create.push(Staged { call: resource.new_resource(extra), weight: Weight::Prerequisite });
        }
        let now = running.as_ref().unwrap_or(&fresh);
        if running.is_some() && differ(&resource.options, &now.options, Kind::Resource) {
            let more = with_defaults(&resource.options);
            options.push(plain(resource.setup(["resource-options", &resource.name], &more)));
        }
        adjust_volumes(resource, now, extra, minors, disks);
        adjust_connection(resource, now, extra, net);
    }
    stages.into()
}

fn adjust_volumes(
    resource: &Resource,
    now: &ResourceConfig,
    extra: &Extra,
    minors: &mut Stage,
    disks: &mut Stage,
) {
    let kept = |known: &crate::control::messages::VolumeConfig| {
        resource.volumes.iter().any(|volume| volume.volume == known.volume && volume.minor == known.minor)
    };
    for gone in now.volumes.iter().filter(|known| !kept(known)) {
        let minor = gone.minor.to_string();
        if gone.disk.is_some() {
            minors
                .push(Staged { call: resource.setup(["detach", &minor], &[]), weight: Weight::Prerequisite });
        }
        minors
            .push(Staged { call: resource.setup(["del-minor", &minor], &[]), weight: Weight::Prerequisite });
    }
    for volume in &resource.volumes {
        let known =
            now.volumes.iter().find(|known| known.volume == volume.volume && known.minor == volume.minor);
        let Some(known) = known else {
            minors.push(Staged { call: resource.new_minor(volume), weight: Weight::Prerequisite });
            disks.extend(resource.attach_both(volume, extra));
            continue;
        };
        let Some(disk) = &known.disk else {
            disks.extend(resource.attach_both(volume, extra));
            continue;
        };
        let same_place = volume.disk.as_deref() == Some(&disk.disk)
            && volume.meta == disk.meta
            && volume.setup_index == setup_index(disk.place);
        if !same_place || option_differs(&volume.options, &disk.options, "max-bio-bvecs") {
            disks.push(plain(resource.minor("detach", volume, &[])));
            disks.extend(resource.attach_both(volume, extra));
            continue;
        }
        if option_differs(&volume.options, &disk.options, "size") {
            disks.push(plain(resource.resize(volume, &[])));
            disks.push(plain(resource.minor("check-resize", volume, &[])));
        }
        if differ(&volume.options, &disk.options, Kind::Disk) {
            let options = volume.options.iter().filter(|option| !option.starts_with("--size="));
            let more = with_defaults(&options.cloned().collect::<Vec<_>>());
            disks.push(plain(resource.minor("disk-options", volume, &more)));
        }
    }
}

fn adjust_connection(resource: &Resource, now: &ResourceConfig, extra: &Extra, net: &mut Stage) {
    let Some(peer) = &resource.peer else { return };
    let Some(connection) = &now.connection else {
        net.extend(resource.connect(extra).map(plain));
        return;
    };
    let (local, remote) = (address(connection.local), address(connection.peer));
    if local != resource.local || remote != *peer {
        net.push(plain(resource.setup(["disconnect", &local, &remote], &[])));
        net.extend(resource.connect(extra).map(plain));
    } else if differ(&resource.net, &connection.options, Kind::Net) {
        net.extend(resource.connection("net-options", &with_defaults(&resource.net)).map(plain));
    }
}

const fn plain(call: Call) -> Staged {
    Staged { call, weight: Weight::Plain }
}

fn with_defaults(options: &[String]) -> Vec<String> {
    std::iter::once("--set-defaults".to_owned()).chain(options.iter().cloned()).collect()
}

/// An address as on command lines (C55).
#[must_use]
pub fn address(address: std::net::SocketAddr) -> String {
    format!("{}:{address}", if address.is_ipv4() { "ipv4" } else { "ipv6" })
}

fn setup_index(place: crate::node::command::MetaPlace) -> String {
    use crate::node::command::MetaPlace;
    match place {
        MetaPlace::Internal => "internal".to_owned(),
        MetaPlace::FlexExternal => "flexible".to_owned(),
        MetaPlace::Indexed(slot) => slot.to_string(),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Resource,
    Disk,
    Net,
}

/// Whether two lists of options mean different things: units and defaults do not matter (L47).
fn differ(configured: &[String], running: &[(String, String)], kind: Kind) -> bool {
    use crate::config::options::{DiskOptions, NetOptions, ResourceOptions};
    macro_rules! values {
        ($options:ty) => {{
            let (mut wanted, mut now) = (<$options>::default(), <$options>::default());
            for (name, value) in pairs(configured) {
                // Checked when the configuration was read.
                let _ = wanted.set(name, value);
            }
            for (name, value) in running {
                let _ = now.set(name, Some(value));
            }
            (wanted, now)
        }};
    }
    match kind {
        Kind::Resource => {
            let (wanted, now) = values!(ResourceOptions);
            wanted != now
        }
        Kind::Net => {
            let (wanted, now) = values!(NetOptions);
            wanted != now
        }
        Kind::Disk => {
            // These two are not changed by disk-options.
            let (mut wanted, now) = values!(DiskOptions);
            wanted.size_sectors = now.size_sectors;
            wanted.max_bio_bvecs = now.max_bio_bvecs;
            wanted != now
        }
    }
}

/// Whether one disk option differs.
fn option_differs(configured: &[String], running: &[(String, String)], name: &str) -> bool {
    let mut wanted = crate::config::options::DiskOptions::default();
    let mut now = wanted.clone();
    for (_, value) in pairs(configured).filter(|(known, _)| *known == name) {
        let _ = wanted.set(name, value);
    }
    for (_, value) in running.iter().filter(|(known, _)| known == name) {
        let _ = now.set(name, Some(value));
    }
    wanted != now
}

/// `--name=value` taken apart.
fn pairs(options: &[String]) -> impl Iterator<Item = (&str, Option<&str>)> {
    options.iter().map(|option| {
        let option = option.trim_start_matches("--");
        match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::messages::{ConnectionConfig, DiskConfig, VolumeConfig};
    use crate::node::command::MetaPlace;

    fn volume(volume: u16, minor: u32) -> Volume {
        Volume {
            volume,
            minor,
            disk: Some(format!("/dev/sda{}", volume + 7)),
            meta: format!("/dev/sda{}", volume + 7),
            setup_index: "internal".into(),
            meta_index: "internal".into(),
            options: vec!["--size=10G".into(), "--al-extents=300".into()],
        }
    }

    fn resource(name: &str) -> Resource {
        Resource {
            name: name.into(),
            options: vec!["--cpu-mask=2".into()],
            net: vec!["--timeout=50".into(), "--connect-int=7".into()],
            local: "ipv4:10.1.1.31:7789".into(),
            peer: Some("ipv4:10.1.1.32:7789".into()),
            volumes: vec![volume(0, 1), volume(1, 2)],
            ..Resource::default()
        }
    }

    fn running() -> ResourceConfig {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let options = vec![pair("size", "10240M"), pair("al-extents", "300")];
        let volume = |volume: u16, minor| VolumeConfig {
            volume,
            minor,
            disk: Some(DiskConfig {
                disk: format!("/dev/sda{}", volume + 7),
                meta: format!("/dev/sda{}", volume + 7),
                place: MetaPlace::Internal,
                options: options.clone(),
            }),
        };
        ResourceConfig {
            name: "r0".into(),
            options: vec![pair("cpu-mask", "2")],
            connection: Some(ConnectionConfig {
                local: "10.1.1.31:7789".parse().unwrap(),
                peer: "10.1.1.32:7789".parse().unwrap(),
                options: vec![pair("timeout", "50"), pair("connect-int", "7"), pair("ping-int", "10")],
            }),
            volumes: vec![volume(0, 1), volume(1, 2)],
        }
    }

    fn text(stages: &[Stage]) -> Vec<String> {
        stages.iter().flatten().map(|staged| staged.call.words.join(" ")).collect()
    }

    fn adjusted(change: impl FnOnce(&mut ResourceConfig)) -> Vec<String> {
        let mut now = running();
        change(&mut now);
        text(&adjust(&[&resource("r0")], &[Some(now)], &Extra::default()))
    }

    #[test]
    fn up_prepares_resource_by_resource_then_attaches_all_then_connects_all() {
        let (r0, r1) = (resource("r0"), resource("r1"));
        let stages = up(&[(&r0, None), (&r1, Some(1))], &Extra::new(vec!["--discard-my-data".into()]));
        assert_eq!(
            text(&stages),
            [
                "new-resource r0 --cpu-mask=2",
                "new-minor r0 1 0",
                "new-minor r0 2 1",
                "new-resource r1 --cpu-mask=2",
                "new-minor r1 2 1",
                "1 v08 /dev/sda7 internal apply-al",
                "attach 1 /dev/sda7 /dev/sda7 internal --size=10G --al-extents=300",
                "2 v08 /dev/sda8 internal apply-al",
                "attach 2 /dev/sda8 /dev/sda8 internal --size=10G --al-extents=300",
                "2 v08 /dev/sda8 internal apply-al",
                "attach 2 /dev/sda8 /dev/sda8 internal --size=10G --al-extents=300",
                "connect r0 ipv4:10.1.1.31:7789 ipv4:10.1.1.32:7789 --timeout=50 --connect-int=7 --discard-my-data",
                "connect r1 ipv4:10.1.1.31:7789 ipv4:10.1.1.32:7789 --timeout=50 --connect-int=7 --discard-my-data",
            ]
        );
    }

    #[test]
    fn nothing_differs_when_only_units_and_defaults_are_written_differently() {
        assert_eq!(adjusted(|_| {}), [""; 0]);
    }

    #[test]
    fn a_resource_that_does_not_run_gets_the_calls_of_up() {
        let r0 = resource("r0");
        let cold = text(&adjust(&[&r0], &[None], &Extra::default()));
        assert_eq!(cold, text(&up(&[(&r0, None)], &Extra::default())));
    }

    #[test]
    fn each_difference_leads_to_its_own_calls() {
        let address = "ipv4:10.1.1.31:7789 ipv4:10.1.1.32:7789";
        assert_eq!(
            adjusted(|now| now.connection.as_mut().unwrap().options.clear()),
            [format!("net-options {address} --set-defaults --timeout=50 --connect-int=7")]
        );
        assert_eq!(adjusted(|now| now.options.clear()), ["resource-options r0 --set-defaults --cpu-mask=2"]);
        assert_eq!(
            adjusted(|now| now.volumes[0].disk.as_mut().unwrap().options[1].1 = "301".into()),
            ["disk-options 1 --set-defaults --al-extents=300"]
        );
        assert_eq!(
            adjusted(|now| now.volumes[0].disk.as_mut().unwrap().options[0].1 = "1G".into()),
            ["resize 1 --size=10G", "check-resize 1"]
        );
        let attach = [
            "1 v08 /dev/sda7 internal apply-al",
            "attach 1 /dev/sda7 /dev/sda7 internal --size=10G --al-extents=300",
        ];
        assert_eq!(adjusted(|now| now.volumes[0].disk = None), attach);
        assert_eq!(
            adjusted(|now| now.volumes[0].disk.as_mut().unwrap().disk = "/dev/old".into()),
            ["detach 1", attach[0], attach[1]]
        );
        assert_eq!(
            adjusted(|now| now.volumes[0].minor = 5),
            ["detach 5", "del-minor 5", "new-minor r0 1 0", attach[0], attach[1]]
        );
        let connect = format!("connect r0 {address} --timeout=50 --connect-int=7");
        assert_eq!(adjusted(|now| now.connection = None), std::slice::from_ref(&connect));
        assert_eq!(
            adjusted(|now| now.connection.as_mut().unwrap().peer.set_port(7790)),
            ["disconnect ipv4:10.1.1.31:7789 ipv4:10.1.1.32:7790".to_owned(), connect]
        );
    }
}
