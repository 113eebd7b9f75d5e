//! Owns what a configuration names, apart from what the one in force does: a configuration that is read may turn out to
//! be wrong, and its memory goes then, while the one before stays.

use std::cell::RefCell;

/// Such things. Each of them lives as long as the configuration that named it.
pub struct Configured<T> {
    read: RefCell<Vec<T>>,
    in_force: RefCell<Vec<T>>,
}

impl<T: Copy + PartialEq> Configured<T> {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self { read: RefCell::new(Vec::new()), in_force: RefCell::new(Vec::new()) }
    }

    /// Begins a configuration.
    pub fn begin(&self) {
        self.read.take();
    }

    /// The configuration that is read names `one`.
    pub fn add(&self, one: T) {
        add(&mut self.read.borrow_mut(), one);
    }

    /// The one in force does, as it turns out.
    pub fn note(&self, one: T) {
        add(&mut self.in_force.borrow_mut(), one);
    }

    /// What the configuration that is read has named.
    pub fn read(&self) -> Vec<T> {
        self.read.borrow().clone()
    }

    /// The configuration that was read is in force from now on.
    pub fn commit(&self) {
        self.in_force.replace(self.read.take());
    }

    /// What the one in force names.
    pub fn all(&self) -> Vec<T> {
        self.in_force.borrow().clone()
    }
}

/// There are few.
fn add<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if !list.contains(&one) {
        list.push(one);
    }
}
