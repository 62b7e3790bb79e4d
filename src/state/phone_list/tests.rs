use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

mod every_shape;
mod every_size;

/// A phone with a chosen hash. The list finds it by identity and by iteration, but not by name.
fn hashed(hash: u64, name: usize) -> Phone<usize> {
    Phone::hashed(hash, &name.to_string(), Kept::of(name))
}

fn names(list: &PhoneList<usize>) -> Vec<usize> {
    let mut names: Vec<_> = list.iter().map(|phone| ***phone.conn()).collect();
    names.sort_unstable();
    names
}

fn depth(node: &Node<usize>) -> usize {
    match node {
        Node::Empty | Node::Leaf(_) => 0,
        Node::Branch(branch) => 1 + branch.children.iter().map(depth).max().unwrap(),
    }
}

/// Checks that no node is larger or smaller than allowed, and that every count is right.
fn assert_shape(node: &Node<usize>, level: usize) -> usize {
    match node {
        Node::Empty => 0,
        Node::Leaf(leaf) => {
            assert!(!leaf.is_empty());
            assert!(leaf.len() <= LEAF_MAX || level == LEVELS);
            leaf.len()
        }
        Node::Branch(branch) => {
            let below = branch.children.iter();
            let sum: usize = below.map(|child| assert_shape(child, level + 1)).sum();
            assert_eq!(sum, branch.len);
            assert!(sum > MERGE_AT, "a branch of {sum} should be a leaf");
            sum
        }
    }
}

fn assert_is(list: &PhoneList<usize>, phones: &BTreeMap<usize, Phone<usize>>) {
    assert_eq!(list.len(), phones.len());
    let older = assert_shape(&list.older, 0);
    assert_eq!(older + usize::from(list.last.is_some()), phones.len());
    assert_eq!(names(list), phones.keys().copied().collect::<Vec<_>>());
    assert!(phones.values().all(|phone| list.contains(phone)));
    let mut iter = list.iter();
    for left in (0..phones.len()).rev() {
        assert!(iter.next().is_some());
        assert_eq!(iter.len(), left);
    }
    assert!(iter.next().is_none() && iter.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Well-spread hashes, hashes that share their first bits, and hashes that are all the same.
    #[test]
    fn holds_what_was_added_and_not_removed(
        mask in prop_oneof![Just(u64::MAX), Just(0xff), Just(0x3 << 42), Just(0)],
        steps in vec((any::<u64>(), any::<bool>(), any::<prop::sample::Index>()), 0..400),
    ) {
        let mut list = PhoneList::new();
        let mut phones = BTreeMap::new();
        for (name, (hash, add, index)) in steps.into_iter().enumerate() {
            let before = list.clone();
            let names_before = names(&before);
            if add || phones.is_empty() {
                let phone = hashed(hash & mask, name);
                list = list.with(&phone);
                phones.insert(name, phone);
            } else {
                let name = *phones.keys().nth(index.index(phones.len())).unwrap();
                let phone = phones.remove(&name).unwrap();
                list = list.without(&phone);
                prop_assert!(!list.contains(&phone));
            }
            prop_assert_eq!(names(&before), names_before, "the old list has changed");
        }
        assert_is(&list, &phones);
        while let Some((_, phone)) = phones.pop_last() {
            list = list.without(&phone);
        }
        assert_is(&list, &phones);
    }
}

#[test]
fn phones_are_found_by_their_conn_id() {
    let mut list = PhoneList::new();
    for i in 0..5_000_usize {
        list = list.with(&Phone::new(&i.to_string(), Kept::of(i)));
    }
    for i in 0..5_000 {
        assert_eq!(***list.get(&i.to_string()).unwrap().conn(), i);
    }
    assert!(list.get("5000").is_none());
}

#[test]
fn conn_ids_whose_hashes_collide_are_told_apart_at_every_length() {
    let mut list = PhoneList::new();
    let mut phones = Vec::new();
    for i in 0..LEAF_MAX * 3 {
        let phone = hashed(hash::conn_id("7"), i);
        list = list.with(&phone);
        phones.push(phone);
    }
    assert_eq!(
        depth(&list.older),
        LEVELS,
        "nothing tells these hashes apart"
    );
    assert_eq!(***list.get("7").unwrap().conn(), 7);
    list = list.without(&phones[7]);
    assert!(list.get("7").is_none());
    assert_eq!(list.len(), LEAF_MAX * 3 - 1);
}

#[test]
fn a_change_of_a_long_list_copies_one_path() {
    let mut list = PhoneList::new();
    for i in 0..10_000_usize {
        list = list.with(&Phone::new(&i.to_string(), Kept::of(i)));
    }
    let longer = list.older.with(&Phone::new("one more", Kept::of(0)), 0);
    let (Node::Branch(old), Node::Branch(new)) = (&list.older, &longer) else {
        panic!("10,000 phones don't fit into a leaf");
    };
    let same = |pair: &(&Node<_>, &Node<_>)| match *pair {
        (Node::Branch(old), Node::Branch(new)) => Shared::ptr_eq(old, new),
        _ => false,
    };
    let shared = old.children.iter().zip(&new.children).filter(same).count();
    assert_eq!(shared, FAN_OUT - 1);
    assert!(depth(&list.older) <= 9, "{} levels", depth(&list.older));
}

#[test]
fn a_phone_that_comes_and_goes_leaves_the_older_ones_alone() {
    let mut list = PhoneList::new();
    for i in 0..1_000 {
        list = list.with(&Phone::new(&i.to_string(), Kept::of(i)));
    }
    let newest = list.last.clone().expect("it came last").phone;
    list = list.without(&newest);
    let (Node::Branch(before), guest) = (&list.older, Phone::new("guest", Kept::of(0))) else {
        panic!("1,000 phones don't fit into a leaf");
    };
    let gone = list.with(&guest).without(&guest);
    assert!(matches!(&gone.older, Node::Branch(after) if Shared::ptr_eq(before, after)));
}

#[test]
fn another_registration_with_the_same_name_is_not_in_the_list() {
    let list = PhoneList::new().with(&hashed(1, 1));
    assert!(!list.contains(&hashed(1, 1)), "another registration");
}

#[test]
fn each_level_has_bits_of_its_own_and_the_first_one_the_top() {
    let top = (0..u64::BITS).filter(|bit| child(1 << bit, 0) != 0);
    assert_eq!(top.collect::<Vec<_>>(), [62, 63]);
    for bit in 0..u64::BITS {
        let levels = (0..LEVELS).filter(|level| child(1 << bit, *level) != 0);
        let used = bit >= u64::BITS - BITS * u32::try_from(LEVELS).unwrap();
        assert_eq!(levels.count(), usize::from(used), "bit {bit}");
    }
}
