//! What the engine does between two calls of the agent's next step.

use std::sync::{Arc, Mutex};

use super::World;
use crate::decode::Stream;
use crate::sim::docker::{EngineKind, SimDocker};

/// What the engine does between two calls of the agent.
pub(super) type Meanwhile = Box<dyn FnOnce(&mut SimDocker) + Send>;

impl World {
    /// A line that is written during the agent's next step, before call `call` of it.
    pub fn say_meanwhile(&mut self, call: u64, id: &str, n_bytes: usize) {
        let (text, time_ns, id) = (self.text(n_bytes), self.tick(), id.to_owned());
        self.meanwhile(call, move |docker| {
            if docker.is_running(&id) {
                docker.log(&id, Stream::Stdout, &text, time_ns);
            }
        });
    }

    /// The engine acts during the agent's next step.
    pub fn meanwhile(&mut self, call: u64, act: impl FnOnce(&mut SimDocker) + Send + 'static) {
        self.meanwhile.push((call, Box::new(act)));
    }

    /// Lends the engine to the calls of the step to come.
    pub(super) fn let_engine_act(&mut self) -> Option<Arc<Mutex<SimDocker>>> {
        if self.meanwhile.is_empty() {
            return None;
        }
        let nobody = SimDocker::new(&self.os, "/nowhere", EngineKind::V23, 0);
        let engine = Arc::new(Mutex::new(std::mem::replace(&mut self.docker, nobody)));
        let begun = self.os.calls().len() as u64;
        for (call, act) in self.meanwhile.drain(..) {
            let engine = engine.clone();
            self.os.act_before(begun + call, move |_| act(&mut engine.lock().expect("one call at a time")));
        }
        Some(engine)
    }

    /// What the step had no call for happens now.
    pub(super) fn take_engine_back(&mut self, engine: Arc<Mutex<SimDocker>>) {
        self.os.act_out();
        let engine = Arc::into_inner(engine).expect("all its acts are over");
        self.docker = engine.into_inner().expect("no act panicked");
    }
}
