//! Each size in turn, growing and shrinking, past every border between leaf and branch.

use super::*;

const LARGEST: usize = 300;

/// The list and its expected contents.
struct Checked {
    list: PhoneList<usize>,
    phones: BTreeMap<usize, Phone<usize>>,
}

impl Checked {
    fn new() -> Self {
        Self {
            list: PhoneList::new(),
            phones: BTreeMap::new(),
        }
    }

    fn add(&mut self, phone: &Phone<usize>) {
        assert!(!self.list.contains(phone) && !self.list.has_namesake(phone));
        self.list = self.list.with(phone);
        self.phones.insert(***phone.conn(), phone.clone());
    }

    fn remove(&mut self, name: usize) {
        let phone = self.phones.remove(&name).expect("it is in the list");
        self.list = self.list.without(&phone);
        assert!(!self.list.contains(&phone) && !self.list.has_namesake(&phone));
    }

    fn check(&self) {
        assert_is(&self.list, &self.phones);
        for phone in self.phones.values() {
            let place = self.list.place_of(phone.hash(), phone.conn_id().as_bytes());
            let found = self.list.at(place.expect("it is in the list"));
            assert!(found.is(phone));
            assert!(self.list.has_namesake(phone));
            let namesake = hashed(phone.hash(), ***phone.conn());
            assert!(!self.list.contains(&namesake), "another registration");
        }
        let nobody = hashed(0, usize::MAX);
        assert!(!self.list.contains(&nobody) && !self.list.has_namesake(&nobody));
    }
}

/// A hash that is spread as well as those of conn-ids are, and is the same in each run.
fn spread(name: usize) -> u64 {
    (name as u64 + 1)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .rotate_left(23)
        .wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// Masks for hashes: well spread; in a few children of the first level, or of the first two; in one child for
/// seven levels and spread below; in one child for ten levels and in four below; all the same.
const KINDS: [u64; 6] = [u64::MAX, 0x3 << 62, 0xf << 60, u64::MAX >> 14, 0x3 << 42, 0];

/// The orders in which phones are removed: first come, first gone; newest first; by hash; in no particular
/// order.
fn orders(phones: &BTreeMap<usize, Phone<usize>>) -> [Vec<usize>; 4] {
    let names: Vec<_> = phones.keys().copied().collect();
    let sorted_by = |key: &dyn Fn(usize) -> u64| {
        let mut names = names.clone();
        names.sort_by_key(|name| key(*name));
        names
    };
    [
        names.clone(),
        names.iter().rev().copied().collect(),
        sorted_by(&|name| phones[&name].hash()),
        sorted_by(&|name| spread(name).rotate_left(32)),
    ]
}

#[test]
fn a_list_that_grows_and_shrinks_holds_at_every_size_what_it_should() {
    for mask in KINDS {
        let mut kept = Checked::new();
        let mut earlier = Vec::new();
        kept.check();
        for name in 0..LARGEST {
            earlier.push(kept.list.clone());
            kept.add(&hashed(spread(name) & mask, name));
            kept.check();
        }
        let full = kept;
        for order in orders(&full.phones) {
            let mut kept = Checked {
                list: full.list.clone(),
                phones: full.phones.clone(),
            };
            for name in order {
                kept.remove(name);
                kept.check();
            }
            assert!(matches!(kept.list.older, Node::Empty));
        }
        full.check();
        for (size, list) in earlier.iter().enumerate() {
            assert_eq!(names(list), (0..size).collect::<Vec<_>>());
        }
    }
}

/// Removes and adds again each phone of each list of up to 40 phones, and of lists just above a border.
#[test]
fn every_phone_of_a_list_can_leave_and_come_again() {
    for size in (0..=40).chain([64, 65, 128, 129, 257]) {
        for mask in KINDS {
            let mut full = Checked::new();
            for name in 0..size {
                full.add(&hashed(spread(name) & mask, name));
            }
            for name in 0..size {
                let mut kept = Checked {
                    list: full.list.clone(),
                    phones: full.phones.clone(),
                };
                kept.remove(name);
                assert_is(&kept.list, &kept.phones);
                kept.add(&hashed(spread(name) & mask, name));
                assert_is(&kept.list, &kept.phones);
            }
            full.check();
        }
    }
}

#[test]
fn a_conn_id_is_found_at_every_size_while_it_is_there_and_not_afterwards() {
    let mut list = PhoneList::new();
    let phones: Vec<_> = (0..LARGEST)
        .map(|i| Phone::new(&i.to_string(), Kept::of(i)))
        .collect();
    let found = |list: &PhoneList<usize>, there: std::ops::Range<usize>| {
        for (i, phone) in phones.iter().enumerate() {
            let found = list.get(phone.conn_id());
            assert_eq!(found.is_some(), there.contains(&i), "{i} of {there:?}");
            assert!(found.is_none_or(|found| found.is(phone)));
        }
    };
    for (size, phone) in phones.iter().enumerate() {
        found(&list, 0..size);
        list = list.with(phone);
    }
    for (gone, phone) in phones.iter().enumerate() {
        found(&list, gone..LARGEST);
        list = list.without(phone);
    }
    found(&list, 0..0);
}
