//! The situations of a node: the rows of the table.

use std::fmt;

use super::super::super::events::HostId;
use super::super::super::world::World;
use super::super::setup::Setup;
use crate::config::options::{Fencing, OnIoError, OnNoDataAccessible, Protocol};
use crate::node::state::{Conn, Disk, Role, State};
use crate::node::steps::Step;
use crate::wire::Command;

/// Defines an enum of situations with their words.
macro_rules! worded {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $words:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// All of them, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// What it is, in words.
            #[must_use]
            pub const fn words(self) -> &'static str {
                match self { $(Self::$variant => $words,)+ }
            }
        }
    };
}

worded! {
    /// What is on the way between the nodes. A packet belongs to the node whose undertaking it serves: an ack
    /// to the writer that waits for it.
    OnTheWay {
        /// A write of this node.
        Write = "P_DATA, P_TRIM, P_ZEROES on the way",
        /// Its answer.
        WriteAck = "ack on the way",
        /// The end of its epoch.
        Barrier = "P_BARRIER on the way",
        /// The answer to that.
        BarrierAck = "P_BARRIER_ACK on the way",
        /// A read of this node's clients, or its answer.
        Read = "P_DATA_REQUEST or reply on the way",
        /// A block that this node alone has.
        OutOfSync = "P_OUT_OF_SYNC on the way",
        /// Who is there, and is it the right one.
        Greeting = "features or authentication on the way",
        /// How both are configured.
        Parameters = "P_PROTOCOL, P_SIZES on the way",
        /// Whose data is newer.
        Uuids = "P_UUIDS on the way",
        /// The own state.
        State = "P_STATE on the way",
        /// A part of the bitmap.
        Bitmap = "P_BITMAP on the way",
        /// The start of a resync.
        SyncUuid = "P_SYNC_UUID on the way",
        /// A change that both make, asked for here.
        Request = "state request or reply on the way",
        /// This target asks for a block.
        ResyncRequest = "resync: request on the way",
        /// A block for this target.
        ResyncReply = "resync: reply on the way",
        /// This target has it.
        ResyncAck = "resync: P_RS_WRITE_ACK on the way",
        /// A verify of this node asks for a digest.
        VerifyRequest = "verify: request on the way",
        /// The digest.
        VerifyReply = "verify: reply on the way",
        /// What this node found.
        VerifyResult = "verify: result on the way",
        /// Is the peer alive?
        Ping = "P_PING or answer on the way",
    }
}

impl OnTheWay {
    /// What a packet serves, if it is this node's undertaking; `sent`: by this node.
    const fn of(command: Command, sent: bool) -> Option<Self> {
        let (here, there) = match command {
            Command::Data | Command::Trim | Command::Zeroes | Command::WriteSame => (Some(Self::Write), None),
            Command::RecvAck
            | Command::WriteAck
            | Command::Superseded
            | Command::NegAck
            | Command::RetryWrite => (None, Some(Self::WriteAck)),
            Command::Barrier => (Some(Self::Barrier), None),
            Command::BarrierAck => (None, Some(Self::BarrierAck)),
            Command::DataRequest => (Some(Self::Read), None),
            Command::DataReply | Command::NegDreply => (None, Some(Self::Read)),
            Command::OutOfSync => (Some(Self::OutOfSync), None),
            Command::InitialData
            | Command::InitialMeta
            | Command::ConnectionFeatures
            | Command::AuthChallenge
            | Command::AuthResponse => (Some(Self::Greeting), None),
            Command::Protocol
            | Command::ProtocolUpdate
            | Command::SyncParam
            | Command::SyncParam89
            | Command::Sizes => (Some(Self::Parameters), None),
            Command::Uuids => (Some(Self::Uuids), None),
            Command::State => (Some(Self::State), None),
            Command::Bitmap | Command::CompressedBitmap => (Some(Self::Bitmap), None),
            Command::SyncUuid => (Some(Self::SyncUuid), None),
            Command::StateChgReq | Command::ConnStChgReq => (Some(Self::Request), None),
            Command::StateChgReply | Command::ConnStChgReply => (None, Some(Self::Request)),
            Command::RsDataRequest | Command::CsumRsRequest | Command::RsThinReq => {
                (Some(Self::ResyncRequest), None)
            }
            Command::RsDataReply
            | Command::RsDeallocated
            | Command::RsIsInSync
            | Command::NegRsDreply
            | Command::RsCancel => (None, Some(Self::ResyncReply)),
            Command::RsWriteAck => (Some(Self::ResyncAck), None),
            Command::OvRequest => (Some(Self::VerifyRequest), None),
            Command::OvReply => (None, Some(Self::VerifyReply)),
            Command::OvResult => (Some(Self::VerifyResult), None),
            Command::Ping => (Some(Self::Ping), None),
            Command::PingAck => (None, Some(Self::Ping)),
            Command::UnplugRemote | Command::DelayProbe => (None, None),
        };
        if sent { here } else { there }
    }
}

worded! {
    /// Why I/O stands still.
    Suspension {
        /// The administrator wants it.
        User = "suspended by the user",
        /// No good data can be reached.
        NoData = "suspended: no data",
        /// The peer is being fenced.
        Fencing = "suspended: fencing",
    }
}

worded! {
    /// What holds for a whole life.
    Trait {
        /// The writer waits for nobody.
        ProtocolA = "protocol A",
        /// ... until the peer has the write.
        ProtocolB = "protocol B",
        /// ... until it is on the peer's disk.
        ProtocolC = "protocol C",
        /// Two volumes.
        TwoVolumes = "two volumes",
        /// Both nodes are Primary (F13).
        TwoPrimaries = "two Primaries (F13)",
        /// More hot extents than slots of the activity log (F10).
        FewSlots = "few slots of the activity log (F10)",
        /// Epochs are at their maximal size (F12).
        SmallEpochs = "epochs of 4 writes (F12)",
        /// A resync or a verify has few buffers (F12).
        FewBuffers = "few buffers (F12)",
        /// Data have digests.
        Integrity = "data-integrity-alg",
        /// Metadata on the device of the data.
        InternalMeta = "internal metadata",
        /// I/O errors are passed on.
        PassOn = "on-io-error pass_on",
        /// Without data, I/O is suspended.
        SuspendNoData = "on-no-data-accessible suspend-io",
        /// `fencing resource-only`
        FencingResource = "fencing resource-only",
        /// `fencing resource-and-stonith`
        FencingStonith = "fencing resource-and-stonith",
    }
}

/// Something that is so at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Situation {
    /// Something is under way in the node.
    Step(Step),
    /// Something is on the way between the nodes.
    OnTheWay(OnTheWay),
    /// A volume has this connection state.
    Conn(Conn),
    /// A volume's disk has this state.
    Disk(Disk),
    /// A volume has this role.
    Role(Role),
    /// I/O is suspended.
    Suspended(Suspension),
    /// The life is like that.
    Trait(Trait),
}

const ON_THE_WAY: usize = Step::ALL.len();
const CONN: usize = ON_THE_WAY + OnTheWay::ALL.len();
const DISK: usize = CONN + Conn::ALL.len();
const ROLE: usize = DISK + Disk::ALL.len();
const SUSPENDED: usize = ROLE + Role::ALL.len();
const TRAIT: usize = SUSPENDED + Suspension::ALL.len();
/// How many situations there are.
pub(super) const COUNT: usize = TRAIT + Trait::ALL.len();

impl Situation {
    /// All of them, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        let steps = Step::ALL.iter().copied().map(Self::Step);
        steps
            .chain(OnTheWay::ALL.iter().copied().map(Self::OnTheWay))
            .chain(Conn::ALL.into_iter().map(Self::Conn))
            .chain(Disk::ALL.into_iter().map(Self::Disk))
            .chain(Role::ALL.into_iter().map(Self::Role))
            .chain(Suspension::ALL.iter().copied().map(Self::Suspended))
            .chain(Trait::ALL.iter().copied().map(Self::Trait))
    }

    /// Its place among them.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Step(step) => step as usize,
            Self::OnTheWay(packet) => ON_THE_WAY + packet as usize,
            Self::Conn(conn) => CONN + conn as usize,
            Self::Disk(disk) => DISK + disk as usize,
            Self::Role(role) => ROLE + role as usize,
            Self::Suspended(suspension) => SUSPENDED + suspension as usize,
            Self::Trait(of_life) => TRAIT + of_life as usize,
        }
    }
}

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Step(step) => step.words(),
            Self::OnTheWay(packet) => packet.words(),
            Self::Conn(conn) => conn.name(),
            Self::Disk(disk) => disk.name(),
            Self::Role(role) => role.name(),
            Self::Suspended(suspension) => suspension.words(),
            Self::Trait(of_life) => of_life.words(),
        })
    }
}

/// A set of situations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Situations(u128);

impl Situations {
    pub(super) const fn insert(&mut self, situation: Situation) {
        self.0 |= 1 << situation.index();
    }

    /// Whether a situation is among them.
    #[must_use]
    pub const fn contains(self, situation: Situation) -> bool {
        self.0 >> situation.index() & 1 == 1
    }

    /// Both sets.
    pub(in super::super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The places of those that are in it.
    pub(super) fn indexes(self) -> impl Iterator<Item = usize> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let index = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(index as usize)
        })
    }

    /// What a node is in at this moment; nothing while its machine is down.
    pub(in super::super) fn of(world: &World, host: HostId) -> Self {
        let mut all = Self::of_states(world, host);
        if let Some(core) = world.core(host) {
            core.each_step(|step| all.insert(Situation::Step(step)));
            for (from, sent) in [(host, true), (1 - host, false)] {
                world.each_packet(from, |command| {
                    if let Some(packet) = OnTheWay::of(command, sent) {
                        all.insert(Situation::OnTheWay(packet));
                    }
                });
            }
        }
        all
    }

    /// Whether a node is in a situation at this moment.
    pub(in super::super) fn hold(world: &World, host: HostId, situation: Situation) -> bool {
        let Some(core) = world.core(host) else { return false };
        let mut found = false;
        match situation {
            Situation::Step(wanted) => core.each_step(|step| found |= step == wanted),
            Situation::OnTheWay(wanted) => {
                for (from, sent) in [(host, true), (1 - host, false)] {
                    world.each_packet(from, |command| found |= OnTheWay::of(command, sent) == Some(wanted));
                }
            }
            Situation::Conn(_) | Situation::Disk(_) | Situation::Role(_) | Situation::Suspended(_) => {
                found = Self::of_states(world, host).contains(situation);
            }
            Situation::Trait(_) => {}
        }
        found
    }

    /// The part of it that the states of the volumes show.
    pub(in super::super) fn of_states(world: &World, host: HostId) -> Self {
        let mut all = Self::default();
        for state in world.core(host).into_iter().flat_map(|core| core.states()) {
            all.add_state(state);
        }
        all
    }

    fn add_state(&mut self, state: State) {
        self.insert(Situation::Conn(state.conn));
        self.insert(Situation::Disk(state.disk));
        self.insert(Situation::Role(state.role));
        let suspensions = [
            (state.susp, Suspension::User),
            (state.susp_nod, Suspension::NoData),
            (state.susp_fen, Suspension::Fencing),
        ];
        for (_, suspension) in suspensions.into_iter().filter(|(is, _)| *is) {
            self.insert(Situation::Suspended(suspension));
        }
    }

    /// What holds for a whole life.
    pub(in super::super) fn of_life(setup: &Setup) -> Self {
        let protocol = match setup.net.protocol {
            Protocol::A => Trait::ProtocolA,
            Protocol::B => Trait::ProtocolB,
            Protocol::C => Trait::ProtocolC,
        };
        let fencing = match setup.disk.fencing {
            Fencing::DontCare => None,
            Fencing::ResourceOnly => Some(Trait::FencingResource),
            Fencing::ResourceAndStonith => Some(Trait::FencingStonith),
        };
        let others = [
            (setup.volumes > 1, Trait::TwoVolumes),
            (setup.two_primaries, Trait::TwoPrimaries),
            (setup.disk.al_extents < 7, Trait::FewSlots),
            (setup.net.max_epoch_size < 7, Trait::SmallEpochs),
            (setup.net.max_buffers < 64, Trait::FewBuffers),
            (setup.net.data_integrity_alg.is_some(), Trait::Integrity),
            (!setup.separate_meta, Trait::InternalMeta),
            (setup.disk.on_io_error == OnIoError::PassOn, Trait::PassOn),
            (setup.resource.on_no_data_accessible == OnNoDataAccessible::SuspendIo, Trait::SuspendNoData),
        ];
        let others = others.into_iter().filter(|(is, _)| *is).map(|(_, of_life)| of_life);
        let mut all = Self::default();
        others.chain([protocol]).chain(fencing).for_each(|of_life| all.insert(Situation::Trait(of_life)));
        all
    }
}

impl FromIterator<Situation> for Situations {
    fn from_iter<I: IntoIterator<Item = Situation>>(situations: I) -> Self {
        let mut all = Self::default();
        situations.into_iter().for_each(|situation| all.insert(situation));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_situation_has_its_place() {
        for (index, situation) in Situation::all().enumerate() {
            assert_eq!(situation.index(), index, "{situation}");
        }
        assert_eq!(Situation::all().count(), COUNT);
        const { assert!(COUNT <= 128, "one bit for each") };
    }

    #[test]
    fn a_set_gives_back_what_was_put_in() {
        let (one, other) = (Situation::Conn(Conn::Ahead), Situation::Step(Step::OwnRead));
        let set: Situations = [one, other].into_iter().collect();
        assert!(set.contains(one) && set.contains(other) && !set.contains(Situation::Conn(Conn::Behind)));
        assert_eq!(set.indexes().collect::<Vec<_>>(), [other.index(), one.index()]);
        assert_eq!(Situations::default().indexes().next(), None);
    }

    #[test]
    fn a_packet_belongs_to_the_node_whose_undertaking_it_serves() {
        assert_eq!(OnTheWay::of(Command::Data, true), Some(OnTheWay::Write));
        assert_eq!(OnTheWay::of(Command::Data, false), None);
        assert_eq!(OnTheWay::of(Command::BarrierAck, false), Some(OnTheWay::BarrierAck));
        assert_eq!(OnTheWay::of(Command::BarrierAck, true), None);
        assert_eq!(OnTheWay::of(Command::RsDataReply, false), Some(OnTheWay::ResyncReply));
        assert_eq!(OnTheWay::of(Command::RsWriteAck, true), Some(OnTheWay::ResyncAck));
    }

    #[test]
    fn a_state_vector_is_a_row_for_each_of_its_parts() {
        let mut set = Situations::default();
        set.add_state(State { susp_fen: true, disk: Disk::Outdated, ..State::NEW });
        let expected = [
            Situation::Conn(Conn::StandAlone),
            Situation::Disk(Disk::Outdated),
            Situation::Role(Role::Secondary),
            Situation::Suspended(Suspension::Fencing),
        ];
        assert_eq!(set, expected.into_iter().collect());
    }
}
