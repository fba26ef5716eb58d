//! The settings of now, for threads that look at them again from time to time.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;

/// Clones share it.
#[derive(Clone, Debug)]
pub struct Current(Arc<Mutex<Arc<Config>>>);

impl Current {
    pub fn new(config: Arc<Config>) -> Current {
        Current(Arc::new(Mutex::new(config)))
    }

    pub fn set(&self, config: Arc<Config>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    pub fn get(&self) -> Arc<Config> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
