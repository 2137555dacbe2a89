//! One machine for many objects: what runs thousands of programs does not ask the host for memory each time.

use softbpf::machine::LoadError;
use softbpf::{Config, Machine, Object};

use crate::MakeEngine;

/// A machine on an engine, made when it is first needed.
#[derive(Debug)]
pub struct Reusable {
    engine: MakeEngine,
    machine: Option<Machine>,
}

impl Reusable {
    /// Nothing yet, on this engine.
    pub fn new(engine: MakeEngine) -> Reusable {
        Reusable { engine, machine: None }
    }

    /// Nothing yet, on each of these engines.
    pub fn on(engines: Vec<MakeEngine>) -> Vec<Reusable> {
        engines.into_iter().map(Reusable::new).collect()
    }

    /// What makes its engine.
    pub fn engine(&self) -> MakeEngine {
        self.engine
    }

    /// The machine, as a new one for this object.
    ///
    /// # Errors
    /// The object does not load.
    pub fn load(&mut self, object: &Object) -> Result<&mut Machine, LoadError> {
        let machine = match self.machine.take() {
            Some(mut machine) => {
                machine.reload(object)?;
                machine
            }
            None => Machine::with_config(object, Config { engine: (self.engine)(), ..Config::default() })?,
        };
        Ok(self.machine.insert(machine))
    }
}
