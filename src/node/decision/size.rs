//! How big the device is that two nodes share (W58 to W61). Sizes are ends of devices; a size of 0
//! means that there is none.

use crate::units::Sector;

/// The sizes that are weighed against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// What the peer's backing device has room for (its d_size).
    pub peer: Sector,
    /// What the own backing device has room for.
    pub own: Sector,
    /// What the nodes last agreed on, from the metadata.
    pub last_agreed: Sector,
    /// What the user asked for: see [`user_size`].
    pub user: Sector,
}

/// The size of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The size.
    pub end: Sector,
    /// The user asked for more than there is: that wish was ignored, which is worth an error in the
    /// log.
    pub user_size_ignored: bool,
}

/// The size of the device on a node with a disk (W58).
#[must_use]
pub fn agreed_size(sizes: &Sizes) -> Agreed {
    let Sizes { peer, own, last_agreed, user } = *sizes;
    let available = match (some(peer), some(own), some(last_agreed)) {
        (Some(peer), Some(own), _) => peer.min(own),
        // One device is out of sight: what was agreed on holds, as far as the other has room for it.
        (one, other, Some(last)) => one.into_iter().chain(other).fold(last, Sector::min),
        (one, other, None) => one.or(other).unwrap_or_default(),
    };
    match some(user) {
        Some(user) if user > available => Agreed { end: available, user_size_ignored: true },
        Some(user) => Agreed { end: user, user_size_ignored: false },
        None => Agreed { end: available, user_size_ignored: false },
    }
}

/// The user size that counts during the handshake: the smaller one of two that are set (W59). On a
/// later packet the peer's counts as sent.
#[must_use]
pub fn user_size(own: Sector, peer: Sector) -> Sector {
    match (some(own), some(peer)) {
        (Some(own), Some(peer)) => own.min(peer),
        (one, other) => one.or(other).unwrap_or_default(),
    }
}

/// What a node without a disk does about the peer's sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diskless {
    /// The peer names no size, or the one there is.
    Keep,
    /// The peer has no disk either: keep the size, and warn.
    KeepWithWarning,
    /// Take this size.
    Adopt(Sector),
    /// The device would shrink under a Primary: drop the connection for good.
    Refuse,
}

/// The size of the device on a node without a disk (W61): `current` is its size so far, the others
/// are the peer's.
#[must_use]
pub fn diskless_size(
    current: Sector,
    primary: bool,
    peer_current: Sector,
    peer_user: Sector,
    peer_disk: Sector,
) -> Diskless {
    let Some(new) = some(peer_current).or(some(peer_user)).or(some(peer_disk)) else {
        return Diskless::Keep;
    };
    if new == current {
        Diskless::Keep
    } else if some(current).is_some() && some(peer_disk).is_none() {
        Diskless::KeepWithWarning
    } else if new < current && primary {
        Diskless::Refuse
    } else {
        Diskless::Adopt(new)
    }
}

/// Whether a node with a disk refuses to shrink to `agreed` (W60, S49). `keeps_data`: the own disk is
/// at least Outdated; `online`: already connected, to a peer with a disk.
#[must_use]
pub fn refuses_to_shrink(current: Sector, agreed: Sector, keeps_data: bool, online: bool) -> bool {
    agreed < current && keeps_data && !online
}

/// Log line of such a refusal (S49).
#[must_use]
pub fn too_small_text(agreed: Sector, current: Sector) -> String {
    format!("The peer's disk size is too small! ({agreed} < {current} sectors)")
}

fn some(size: Sector) -> Option<Sector> {
    (size != Sector::default()).then_some(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agreed(peer: u64, own: u64, last: u64, user: u64) -> (u64, bool) {
        let agreed = agreed_size(&Sizes {
            peer: Sector::new(peer),
            own: Sector::new(own),
            last_agreed: Sector::new(last),
            user: Sector::new(user),
        });
        (agreed.end.get(), agreed.user_size_ignored)
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
        let wish = |own, peer| user_size(Sector::new(own), Sector::new(peer)).get();
        assert_eq!((wish(0, 0), wish(5, 0), wish(0, 7), wish(5, 7)), (0, 5, 7, 5));
    }

    #[test]
    fn a_disk_with_data_does_not_shrink_at_connect() {
        // W60
        let refuses =
            |new, keeps, online| refuses_to_shrink(Sector::new(100), Sector::new(new), keeps, online);
        assert!(refuses(99, true, false));
        assert!(!refuses(100, true, false));
        assert!(!refuses(99, false, false));
        assert!(!refuses(99, true, true));
        assert_eq!(
            too_small_text(Sector::new(99), Sector::new(100)),
            "The peer's disk size is too small! (99 < 100 sectors)"
        );
    }

    #[test]
    fn a_node_without_a_disk_follows_its_peer() {
        // W61
        let follow = |current, primary, c, u, d| {
            let at = Sector::new;
            diskless_size(at(current), primary, at(c), at(u), at(d))
        };
        assert_eq!(follow(0, false, 0, 0, 0), Diskless::Keep);
        assert_eq!(follow(100, true, 100, 50, 200), Diskless::Keep);
        assert_eq!(follow(0, false, 100, 50, 200), Diskless::Adopt(Sector::new(100)));
        assert_eq!(follow(0, false, 0, 50, 200), Diskless::Adopt(Sector::new(50)));
        assert_eq!(follow(0, true, 0, 0, 200), Diskless::Adopt(Sector::new(200)));
        assert_eq!(follow(100, false, 120, 0, 0), Diskless::KeepWithWarning);
        assert_eq!(follow(100, true, 90, 0, 200), Diskless::Refuse);
        assert_eq!(follow(100, false, 90, 0, 200), Diskless::Adopt(Sector::new(90)));
        assert_eq!(follow(100, true, 110, 0, 200), Diskless::Adopt(Sector::new(110)));
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
