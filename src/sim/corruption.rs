//! A network that changes block data on its way, unnoticed by its own checksums (F9).

use super::random::Random;

/// Changes one bit of some blocks.
#[derive(Clone, Debug)]
pub(super) struct Corruption {
    random: Random,
    /// One payload of so many.
    one_in: u64,
}

impl Corruption {
    /// Changes one payload of so many, by chance.
    pub(super) const fn new(seed: u64, one_in: u64) -> Self {
        Self { random: Random::new(seed), one_in }
    }

    /// What arrives in place of this payload, if it is changed.
    pub(super) fn strike(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        if self.random.below(self.one_in) != 0 {
            return None;
        }
        let bit = self.random.below(payload.len() as u64 * 8);
        let mut changed = payload.to_vec();
        *changed.get_mut((bit / 8) as usize)? ^= 1 << (bit % 8);
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_one_payload_in_so_many_is_another() {
        let mut corruption = Corruption::new(7, 4);
        let payload = [0x5a; 512];
        let changed: Vec<_> = (0..4_000).filter_map(|_| corruption.strike(&payload)).collect();
        assert!((800..1_200).contains(&changed.len()), "{}", changed.len());
        for other in changed {
            let bits: u32 = other.iter().zip(payload).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(bits, 1);
        }
        assert_eq!(Corruption::new(7, 1).strike(&[]), None);
    }
}
