//! How big the device is that two nodes share (W58 to W61). All sizes are in sectors; 0 means none.

/// The sizes of the peer's P_SIZES.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// What its backing device has room for.
    pub d_size: u64,
    /// What its user asked for.
    pub u_size: u64,
    /// How big its device is.
    pub c_size: u64,
}

/// The size of the device on a node with a disk (W58): `own` and `peer` is what the backing devices
/// have room for, `last_agreed` what the metadata remembers, `user` the wish that counts.
///
/// A wish for more than there is has no effect: see [`asks_too_much`].
#[must_use]
pub fn agreed_size(own: u64, peer: u64, last_agreed: u64, user: u64) -> u64 {
    let available = available(own, peer, last_agreed);
    match some(user) {
        Some(user) if user <= available => user,
        _ => available,
    }
}

/// Whether the user asked for more than there is, which is worth an error in the log (W58.4).
#[must_use]
pub fn asks_too_much(own: u64, peer: u64, last_agreed: u64, user: u64) -> bool {
    user > available(own, peer, last_agreed)
}

/// The user size that counts during the handshake: the smaller one of two that are set (W59). On a
/// later packet the peer's counts as sent.
#[must_use]
pub fn user_size(own: u64, peer: u64) -> u64 {
    match (some(own), some(peer)) {
        (Some(own), Some(peer)) => own.min(peer),
        (one, other) => one.or(other).unwrap_or(0),
    }
}

/// Whether a node with a disk refuses the peer for shrinking its device to `agreed` (W60, S49).
/// `keeps_data`: the own disk is at least Outdated; `online`: already connected, to a peer with a disk.
#[must_use]
pub fn refuses_to_shrink(current: u64, agreed: u64, keeps_data: bool, online: bool) -> bool {
    agreed < current && keeps_data && !online
}

/// What a node without a disk does about the peer's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diskless {
    /// The peer names no size, or the one there is.
    Keep,
    /// The peer has no disk either: keep the size, and warn.
    KeepWithWarning,
    /// Take this size.
    Adopt(u64),
    /// The device would shrink under a Primary: drop the connection for good.
    Refuse,
}

/// The size of the device on a node without a disk (W61); `current` is its size so far.
#[must_use]
pub fn diskless_size(current: u64, primary: bool, peer: &Peer) -> Diskless {
    let Some(new) = some(peer.c_size).or(some(peer.u_size)).or(some(peer.d_size)) else {
        return Diskless::Keep;
    };
    if new == current {
        Diskless::Keep
    } else if current != 0 && peer.d_size == 0 {
        Diskless::KeepWithWarning
    } else if new < current && primary {
        Diskless::Refuse
    } else {
        Diskless::Adopt(new)
    }
}

/// Log line of a refusal for the size (S49).
#[must_use]
pub fn too_small_text(agreed: u64, current: u64) -> String {
    format!("The peer's disk size is too small! ({agreed} < {current} sectors)")
}

/// W58.1 to 3: the size without the user's wish.
fn available(own: u64, peer: u64, last_agreed: u64) -> u64 {
    match (some(peer), some(own), some(last_agreed)) {
        (Some(peer), Some(own), _) => peer.min(own),
        // One device is out of sight: what was agreed on holds, as far as the other has room for it.
        (one, other, Some(last)) => one.into_iter().chain(other).fold(last, u64::min),
        (one, other, None) => one.or(other).unwrap_or(0),
    }
}

fn some(size: u64) -> Option<u64> {
    (size != 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agreed(peer: u64, own: u64, last: u64, user: u64) -> (u64, bool) {
        (agreed_size(own, peer, last, user), asks_too_much(own, peer, last, user))
    }

    #[test]
    fn each_row_of_w58_decides_its_case() {
        assert_eq!(agreed(900, 1000, 800, 0), (900, false)); // 1
        assert_eq!(agreed(0, 1000, 800, 0), (800, false)); // 2
        assert_eq!(agreed(0, 700, 800, 0), (700, false));
        assert_eq!(agreed(600, 0, 800, 0), (600, false));
        assert_eq!(agreed(0, 0, 800, 0), (800, false));
        assert_eq!(agreed(0, 1000, 0, 0), (1000, false)); // 3
        assert_eq!(agreed(900, 0, 0, 0), (900, false));
        assert_eq!(agreed(0, 0, 0, 0), (0, false));
        assert_eq!(agreed(900, 1000, 0, 500), (500, false)); // 4
        assert_eq!(agreed(900, 1000, 0, 950), (900, true));
    }

    #[test]
    fn the_smaller_wish_counts_in_the_handshake() {
        // W59
        assert_eq!((user_size(0, 0), user_size(5, 0), user_size(0, 7), user_size(5, 7)), (0, 5, 7, 5));
    }

    #[test]
    fn a_disk_with_data_does_not_shrink_at_connect() {
        // W60
        assert!(refuses_to_shrink(100, 99, true, false));
        assert!(!refuses_to_shrink(100, 100, true, false));
        assert!(!refuses_to_shrink(100, 99, false, false));
        assert!(!refuses_to_shrink(100, 99, true, true));
        assert_eq!(too_small_text(99, 100), "The peer's disk size is too small! (99 < 100 sectors)");
    }

    #[test]
    fn a_node_without_a_disk_follows_its_peer() {
        // W61
        let follow = |current, primary, c_size, u_size, d_size| {
            diskless_size(current, primary, &Peer { d_size, u_size, c_size })
        };
        assert_eq!(follow(0, false, 0, 0, 0), Diskless::Keep);
        assert_eq!(follow(100, true, 100, 50, 200), Diskless::Keep);
        assert_eq!(follow(0, false, 100, 50, 200), Diskless::Adopt(100));
        assert_eq!(follow(0, false, 0, 50, 200), Diskless::Adopt(50));
        assert_eq!(follow(0, true, 0, 0, 200), Diskless::Adopt(200));
        assert_eq!(follow(100, false, 120, 0, 0), Diskless::KeepWithWarning);
        assert_eq!(follow(100, true, 90, 0, 200), Diskless::Refuse);
        assert_eq!(follow(100, false, 90, 0, 200), Diskless::Adopt(90));
        assert_eq!(follow(100, true, 110, 0, 200), Diskless::Adopt(110));
    }

    proptest! {
        #[test]
        fn both_nodes_agree_and_never_on_more_than_either_has(
            peer in 0..50u64, own in 0..50u64, last in 0..50u64, user in 0..50u64,
        ) {
            let (end, _) = agreed(peer, own, last, user);
            prop_assert!(peer == 0 || end <= peer);
            prop_assert!(own == 0 || end <= own);
            prop_assert_eq!(agreed(own, peer, last, user).0, end);
        }
    }
}
