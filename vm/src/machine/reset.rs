//! Back to the start: a machine as its object was loaded, and a machine for another object in the same memory.

use super::{DEFAULT_FUEL, LoadError, Machine};
use crate::context::Placed;
use crate::helpers::MAX_RECORDS;
use crate::object::Object;
use crate::world::World;

impl Machine {
    /// Brings the machine back to where it was when its object had been loaded, at a cost in proportion to what was touched
    /// since (and to the size of small arrays): programs and addresses stay as they are.
    ///
    /// - Maps hold what the object declares; events, lines and samples that nobody took are gone.
    /// - Context, packet, far objects and what [`Machine::place`] has placed are gone, and the addresses are free again.
    /// - [`Machine::world`] is the default one, clock and random numbers included: what a test has set there, it sets again.
    /// - The log of calls is empty.
    /// - A machine that a panic has cut off can run again ([`super::RunError::Poisoned`]).
    ///
    /// Mocks stay, with the state that they keep, and so does [`Machine::fuel`]: no run changes them. So does what a test has
    /// opened or closed by hand of a map's values in [`Machine::memory`].
    ///
    /// ```
    /// use softbpf::{Machine, Object, program_type::ProgramType};
    ///
    /// let mut vm = Machine::load(&Object::from_text("call ktime_get_ns\n exit", ProgramType::Kprobe)?)?;
    /// let first = vm.run("main", ())?;
    /// assert_ne!(vm.run("main", ())?, first);
    /// vm.reset();
    /// assert_eq!(vm.run("main", ())?, first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reset(&mut self) {
        for map in &mut self.maps {
            map.reset_with_memory(&mut self.memory);
        }
        self.memory.return_to_mark();
        self.forget_history();
    }

    /// Loads another object in place of this one: afterwards the machine is as one that was made for the object with
    /// [`Machine::with_config`], with the same CPUs, the same tracking of uninitialised bytes and the same engine, mocks
    /// taken away and [`Machine::fuel`] as by default. Guest addresses are those of a new machine.
    ///
    /// What costs a machine most is kept: guest memory that the host has granted, and what the engine has of the host's.
    /// The cost of clearing is in proportion to the pages that were touched.
    ///
    /// ```
    /// use softbpf::{Machine, Object, program_type::ProgramType};
    ///
    /// let mut vm = Machine::load(&Object::from_text("r0 = 1\n exit", ProgramType::Kprobe)?)?;
    /// assert_eq!(vm.run("main", ())?.ret, Ok(1));
    /// vm.reload(&Object::from_text("r0 = 2\n exit", ProgramType::Kprobe)?)?;
    /// assert_eq!(vm.run("main", ())?.ret, Ok(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Machine::load`]. The machine is empty then, without maps and programs, and another object can be loaded.
    pub fn reload(&mut self, object: &Object) -> Result<(), LoadError> {
        self.empty();
        self.fill(object).inspect_err(|_| self.empty())
    }

    /// Forgets the object and all that came of it.
    fn empty(&mut self) {
        self.maps.clear();
        self.holding_maps.clear();
        self.programs.clear();
        self.program_names.clear();
        self.forget_history();
        self.helpers.remove_mocks();
        self.helpers.keep_calls(MAX_RECORDS as u32);
        self.fuel = DEFAULT_FUEL;
        self.memory.reset();
    }

    fn forget_history(&mut self) {
        self.world = World::default();
        self.helpers.forget_calls();
        self.placed = Placed::default();
        self.forget_run();
        self.walks = 0;
        self.walk_keys.clear();
        self.poisoned = false;
    }
}
