//! A lock for what only those who wait or listen need. No lookup takes one, and no code of a user runs under
//! one.

use std::sync::PoisonError;

#[cfg(not(switchboard_shuttle))]
use std::sync::{Mutex, MutexGuard};

#[cfg(switchboard_shuttle)]
use shuttle::sync::{Mutex, MutexGuard};

pub(crate) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
