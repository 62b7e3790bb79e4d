//! Every distribution of a few phones among the children of a branch, and every change to each of them.

use std::collections::HashSet;

use super::*;

/// A node, and its phones, grouped by the letter that is their hash.
struct Dealt {
    node: Node<usize>,
    phones: Vec<Vec<Phone<usize>>>,
    /// The number of phones so far: each gets a name of its own.
    named: usize,
}

impl Dealt {
    fn with(&self, letters: &[u64], at: usize) -> Self {
        let phone = hashed(letters[at], self.named);
        let mut phones = self.phones.clone();
        phones[at].push(phone.clone());
        Self {
            node: self.node.with(&phone, 0),
            phones,
            named: self.named + 1,
        }
    }

    /// Removes one of the phones with this letter: in turn the first, the last or one between them.
    fn without(&self, at: usize) -> Option<Self> {
        let mut phones = self.phones.clone();
        let count = phones[at].len();
        let gone = self.named.checked_rem(count)?;
        let phone = phones[at].remove(gone);
        Some(Self {
            node: self.node.without(&phone, 0),
            phones,
            named: self.named + 1,
        })
    }

    fn len(&self) -> usize {
        self.phones.iter().map(Vec::len).sum()
    }

    fn check(&self) {
        assert_eq!(assert_shape(&self.node, 0), self.len());
        let list = PhoneList {
            len: self.len(),
            last: None,
            older: self.node.clone(),
        };
        let mut expected: Vec<_> = self.phones.iter().flatten().map(|p| ***p.conn()).collect();
        expected.sort_unstable();
        assert_eq!(names(&list), expected);
        for phone in self.phones.iter().flatten() {
            assert!(list.contains(phone) && list.has_namesake(phone));
        }
    }

    /// The number of phones per letter, and the kinds of the nodes. Further changes depend on nothing else.
    fn shape(&self) -> Vec<u8> {
        fn nodes(node: &Node<usize>, into: &mut Vec<u8>) {
            match node {
                Node::Empty | Node::Leaf(_) => into.push(u8::MAX),
                Node::Branch(branch) => {
                    into.push(u8::MAX - 1);
                    branch.children.iter().for_each(|node| nodes(node, into));
                }
            }
        }
        let counts = self.phones.iter().map(Vec::len);
        let mut shape = counts.map(|n| u8::try_from(n).unwrap()).collect();
        nodes(&self.node, &mut shape);
        shape
    }
}

/// Visits every shape that can be reached from the empty one by adding or removing one phone at a time.
/// `most` limits the phones of each letter, and `in_all` their total. Returns the number of shapes.
fn explore(letters: &[u64], most: &[usize], in_all: usize) -> usize {
    let mut seen = HashSet::new();
    let mut open = vec![Dealt {
        node: Node::Empty,
        phones: vec![Vec::new(); letters.len()],
        named: 0,
    }];
    seen.insert(open[0].shape());
    while let Some(dealt) = open.pop() {
        for (at, most) in most.iter().enumerate() {
            let has_room = dealt.phones[at].len() < *most && dealt.len() < in_all;
            let larger = has_room.then(|| dealt.with(letters, at));
            for next in larger.into_iter().chain(dealt.without(at)) {
                next.check();
                if seen.insert(next.shape()) {
                    open.push(next);
                }
            }
        }
        dealt.check();
    }
    println!("{} shapes", seen.len());
    seen.len()
}

/// A hash with these bits at its top three levels.
fn letter(first: u64, second: u64, third: u64) -> u64 {
    first << 62 | second << 60 | third << 58
}

#[test]
fn every_distribution_of_phones_among_four_children_is_a_valid_list() {
    let letters = [0, 1, 2, 3].map(|first| letter(first, 0, 0));
    let shapes = explore(&letters, &[LEAF_MAX + 1; 4], LEAF_MAX + 2);
    assert!(shapes > 10_000, "{shapes} shapes");
}

/// The second level splits while the first one is split, and merges while its siblings stay.
#[test]
fn every_distribution_of_phones_below_one_child_is_a_valid_list() {
    let below = [0, 1, 3].map(|second| letter(2, second, 1));
    let letters = [
        below[0],
        below[1],
        below[2],
        letter(0, 3, 0),
        letter(3, 0, 0),
    ];
    let shapes = explore(&letters, &[LEAF_MAX + 1, LEAF_MAX, 3, 2, 2], LEAF_MAX + 6);
    assert!(shapes > 10_000, "{shapes} shapes");
}

/// Two sibling branches at the second level, and one branch at the third.
#[test]
fn sibling_branches_are_valid_lists() {
    let letters = [
        letter(1, 0, 0),
        letter(1, 0, 3),
        letter(2, 1, 0),
        letter(2, 3, 2),
    ];
    let shapes = explore(&letters, &[LEAF_MAX + 2, 9, LEAF_MAX + 1, 2], 3 * LEAF_MAX);
    assert!(shapes > 10_000, "{shapes} shapes");
}
