//! The phones of one server-id: a persistent list. A change copies only the path from the root to a leaf.
//!
//! The newest phone is stored in the list itself. The others are in a trie over the hash of the conn-id. The
//! old list and the new one share its branches and leaves, so that a change copies one path and nothing else.

use std::slice;

use crate::state::hash;
use crate::state::kept::Kept;
use crate::state::shared::{Shared, SharedSlice};

/// The bits of the hash that one branch consumes.
const BITS: u32 = 2;
const FAN_OUT: usize = 1 << BITS;
/// Levels of branches, enough for a hundred million phones. A leaf below the last level grows without bound.
const LEVELS: usize = 12;
const LEAF_MAX: usize = 16;
/// A branch with no more phones than this becomes a leaf again. This is well below `LEAF_MAX`, so that a
/// phone that comes and goes at the border doesn't rebuild the node every time.
const MERGE_AT: usize = LEAF_MAX / 2;

/// A registration. Its address is its identity: a later phone with the same conn-id is a different one.
///
/// The conn-id is behind the rest, in the same allocation.
pub(crate) struct Phone<C: ?Sized>(SharedSlice<u8, Registered<C>>);

struct Registered<C: ?Sized> {
    hash: u64,
    conn: Kept<C>,
}

impl<C: ?Sized> Phone<C> {
    pub(crate) fn new(conn_id: &str, conn: Kept<C>) -> Self {
        Self::hashed(hash::conn_id(conn_id), conn_id, conn)
    }

    fn hashed(hash: u64, conn_id: &str, conn: Kept<C>) -> Self {
        Self(SharedSlice::of(
            Registered { hash, conn },
            conn_id.as_bytes(),
        ))
    }

    fn hash(&self) -> u64 {
        self.0.header().hash
    }

    pub(crate) fn conn(&self) -> &Kept<C> {
        &self.0.header().conn
    }

    /// The conn-id, without the check that makes it a string.
    pub(crate) fn conn_id_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn conn_id(&self) -> &str {
        str::from_utf8(self.conn_id_bytes()).expect("it was made from a string")
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

impl<C: ?Sized> Clone for Phone<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The hash is stored next to the pointer, so that a search touches one phone and not all of them.
struct Entry<C: ?Sized> {
    hash: u64,
    phone: Phone<C>,
}

#[derive(Clone, Copy)]
pub(crate) enum Place {
    Last,
    Older { hash: u64, at: usize },
}

pub(crate) struct PhoneList<C: ?Sized> {
    len: usize,
    /// The newest phone, until another one comes. A phone that soon leaves again doesn't touch the older
    /// ones.
    last: Option<Entry<C>>,
    older: Node<C>,
}

enum Node<C: ?Sized> {
    Empty,
    Leaf(SharedSlice<Entry<C>>),
    Branch(Shared<Branch<C>>),
}

struct Branch<C: ?Sized> {
    len: usize,
    children: [Node<C>; FAN_OUT],
}

impl<C: ?Sized> PhoneList<C> {
    pub(crate) const fn new() -> Self {
        Self {
            len: 0,
            last: None,
            older: Node::Empty,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, conn_id: &str) -> Option<&Phone<C>> {
        Some(self.at(self.place(conn_id)?))
    }

    pub(crate) fn contains(&self, phone: &Phone<C>) -> bool {
        self.last.as_ref().is_some_and(|last| last.phone.is(phone))
            || self
                .leaf(phone.hash())
                .iter()
                .any(|entry| entry.phone.is(phone))
    }

    /// The position of a phone. Valid only in this list, where [`at`](Self::at) then compares no names.
    pub(crate) fn place(&self, conn_id: &str) -> Option<Place> {
        self.place_of(hash::conn_id(conn_id), conn_id.as_bytes())
    }

    pub(crate) fn has_namesake(&self, phone: &Phone<C>) -> bool {
        self.place_of(phone.hash(), phone.conn_id_bytes()).is_some()
    }

    fn place_of(&self, hash: u64, conn_id: &[u8]) -> Option<Place> {
        let same =
            |entry: &Entry<C>| entry.hash == hash && *entry.phone.conn_id_bytes() == *conn_id;
        if self.last.as_ref().is_some_and(same) {
            return Some(Place::Last);
        }
        let at = self.leaf(hash).iter().position(same)?;
        Some(Place::Older { hash, at })
    }

    pub(crate) fn at(&self, place: Place) -> &Phone<C> {
        let entry = match place {
            Place::Last => self.last.as_ref(),
            Place::Older { hash, at } => self.leaf(hash).get(at),
        };
        &entry.expect("the place belongs to this list").phone
    }

    /// The list with one more phone. Its conn-id must not be in the list.
    pub(crate) fn with(&self, phone: &Phone<C>) -> Self {
        Self {
            len: self.len + 1,
            last: Some(Entry::of(phone)),
            older: match &self.last {
                Some(last) => self.older.with(&last.phone, 0),
                None => self.older.clone(),
            },
        }
    }

    /// The list without a phone. The phone must be in the list.
    pub(crate) fn without(&self, phone: &Phone<C>) -> Self {
        let len = self.len - 1;
        match &self.last {
            Some(last) if last.phone.is(phone) => Self {
                len,
                last: None,
                older: self.older.clone(),
            },
            last => Self {
                len,
                last: last.clone(),
                older: self.older.without(phone, 0),
            },
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_, C> {
        Iter {
            left: self.len,
            last: self.last.as_ref(),
            leaf: match &self.older {
                Node::Leaf(leaf) => leaf.iter(),
                _ => [].iter(),
            },
            depth: 0,
            // Only the first iterator is used until the search descends to the next level.
            above: std::array::from_fn(|_| match &self.older {
                Node::Branch(branch) => branch.children.iter(),
                _ => [].iter(),
            }),
        }
    }

    fn leaf(&self, hash: u64) -> &[Entry<C>] {
        let mut node = &self.older;
        let mut level = 0;
        loop {
            match node {
                Node::Empty => return &[],
                Node::Leaf(leaf) => return leaf,
                Node::Branch(branch) => node = &branch.children[child(hash, level)],
            }
            level += 1;
        }
    }
}

impl<C: ?Sized> Clone for PhoneList<C> {
    fn clone(&self) -> Self {
        Self {
            len: self.len,
            last: self.last.clone(),
            older: self.older.clone(),
        }
    }
}

/// Uses the top bits first.
fn child(hash: u64, level: usize) -> usize {
    let used = u32::try_from(level).expect("there are few levels") * BITS;
    let bits = hash.rotate_left(used + BITS) % FAN_OUT as u64;
    usize::try_from(bits).expect("less than FAN_OUT")
}

impl<C: ?Sized> Node<C> {
    fn with(&self, phone: &Phone<C>, level: usize) -> Self {
        match self {
            Self::Empty => leaf(1, |_| Entry::of(phone)),
            Self::Leaf(full) if full.len() >= LEAF_MAX && level < LEVELS => {
                split(full, level).with(phone, level)
            }
            Self::Leaf(old) => leaf(old.len() + 1, |at| match old.get(at) {
                Some(entry) => entry.clone(),
                None => Entry::of(phone),
            }),
            Self::Branch(branch) => {
                let at = child(phone.hash(), level);
                Self::Branch(Shared::new(Branch {
                    len: branch.len + 1,
                    children: branch.replace(at, |old| old.with(phone, level + 1)),
                }))
            }
        }
    }

    fn without(&self, phone: &Phone<C>, level: usize) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Leaf(old) => {
                let Some(gone) = old.iter().position(|entry| entry.phone.is(phone)) else {
                    return self.clone();
                };
                match old.len() {
                    1 => Self::Empty,
                    len => leaf(len - 1, |at| old[at + usize::from(at >= gone)].clone()),
                }
            }
            Self::Branch(branch) => {
                let at = child(phone.hash(), level);
                let smaller = Branch {
                    len: branch.len - 1,
                    children: branch.replace(at, |old| old.without(phone, level + 1)),
                };
                match smaller.len {
                    ..=MERGE_AT => smaller.merge(),
                    _ => Self::Branch(Shared::new(smaller)),
                }
            }
        }
    }
}

fn leaf<C: ?Sized>(len: usize, entry: impl FnMut(usize) -> Entry<C>) -> Node<C> {
    Node::Leaf(SharedSlice::from_fn(len, entry))
}

/// Distributes the entries of a full leaf among the children of a branch.
fn split<C: ?Sized>(entries: &[Entry<C>], level: usize) -> Node<C> {
    let children = std::array::from_fn(|at| {
        let mine = entries
            .iter()
            .filter(|entry| child(entry.hash, level) == at);
        let mut dealt = mine.clone();
        match mine.count() {
            0 => Node::Empty,
            len => leaf(len, |_| dealt.next().expect("counted").clone()),
        }
    });
    Node::Branch(Shared::new(Branch {
        len: entries.len(),
        children,
    }))
}

impl<C: ?Sized> Branch<C> {
    fn replace(&self, at: usize, change: impl Fn(&Node<C>) -> Node<C>) -> [Node<C>; FAN_OUT] {
        std::array::from_fn(|i| match &self.children[i] {
            old if i == at => change(old),
            other => other.clone(),
        })
    }

    /// Merges the children into one leaf. None of them is a branch, because a branch alone has more than
    /// `MERGE_AT` phones.
    fn merge(&self) -> Node<C> {
        let leaves = self.children.iter().filter_map(|node| match node {
            Node::Leaf(leaf) => Some(leaf),
            Node::Empty | Node::Branch(_) => None,
        });
        let mut entries = leaves.flat_map(|leaf| leaf.iter());
        leaf(self.len, |_| entries.next().expect("counted").clone())
    }
}

impl<C: ?Sized> Clone for Node<C> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Leaf(leaf) => Self::Leaf(leaf.clone()),
            Self::Branch(branch) => Self::Branch(Shared::clone(branch)),
        }
    }
}

impl<C: ?Sized> Entry<C> {
    fn of(phone: &Phone<C>) -> Self {
        Self {
            hash: phone.hash(),
            phone: phone.clone(),
        }
    }
}

impl<C: ?Sized> Clone for Entry<C> {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            phone: self.phone.clone(),
        }
    }
}

/// Walks the leaves from left to right with one slice iterator per level, and allocates nothing.
pub(crate) struct Iter<'a, C: ?Sized> {
    left: usize,
    last: Option<&'a Entry<C>>,
    leaf: slice::Iter<'a, Entry<C>>,
    depth: usize,
    above: [slice::Iter<'a, Node<C>>; LEVELS],
}

impl<'a, C: ?Sized> Iterator for Iter<'a, C> {
    type Item = &'a Phone<C>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.last.take() {
            self.left -= 1;
            return Some(&entry.phone);
        }
        loop {
            if let Some(entry) = self.leaf.next() {
                self.left -= 1;
                return Some(&entry.phone);
            }
            match self.above[self.depth].next() {
                Some(Node::Empty) => {}
                Some(Node::Leaf(leaf)) => self.leaf = leaf.iter(),
                Some(Node::Branch(branch)) => {
                    self.depth += 1;
                    self.above[self.depth] = branch.children.iter();
                }
                None if self.depth == 0 => return None,
                None => self.depth -= 1,
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<C: ?Sized> ExactSizeIterator for Iter<'_, C> {}

#[cfg(test)]
mod tests;
