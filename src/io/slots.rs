//! A table whose keys are never reused: what the key of a dead entry finds is nothing, never its
//! successor.

/// Names an entry: its place in the table, and which of the place's tenants it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The key with this number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number, e.g. to travel through the kernel.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    const fn new(place: u32, tenant: u32) -> Self {
        Self((tenant as u64) << 32 | place as u64)
    }

    const fn place(self) -> usize {
        self.0 as u32 as usize
    }

    const fn tenant(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.place(), self.tenant())
    }
}

/// The table.
#[derive(Debug)]
pub struct Slots<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    tenant: u32,
    value: Option<T>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an entry.
    pub fn insert(&mut self, value: T) -> Key {
        if let Some(place) = self.free.pop() {
            let slot = &mut self.places[place as usize];
            slot.value = Some(value);
            return Key::new(place, slot.tenant);
        }
        let place = u32::try_from(self.places.len()).expect("fewer entries than memory has room for");
        self.places.push(Place { tenant: 1, value: Some(value) });
        Key::new(place, 1)
    }

    /// The entry, while it exists.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.places.get(key.place()).filter(|slot| slot.tenant == key.tenant())?.value.as_ref()
    }

    /// The entry, while it exists.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.places.get_mut(key.place()).filter(|slot| slot.tenant == key.tenant())?.value.as_mut()
    }

    /// Takes the entry out.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.places.get_mut(key.place()).filter(|slot| slot.tenant == key.tenant())?;
        let value = slot.value.take()?;
        slot.tenant = slot.tenant.wrapping_add(1);
        self.free.push(key.place() as u32);
        Some(value)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.places.iter().enumerate().filter_map(|(place, slot)| {
            slot.value.as_ref().map(|value| (Key::new(place as u32, slot.tenant), value))
        })
    }

    /// Keys of all entries.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_key_never_finds_the_next_tenant() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_ne!(first, second);
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&"second")));
        assert_eq!((slots.remove(first), slots.len()), (None, 1));
        assert_eq!(Key::from_u64(second.as_u64()), second);
        assert_eq!(slots.keys(), [second]);
    }
}
