//! What all sides make of a program on one input: whether they differ, who says what, and what most trust says is right.
//!
//! It knows outcomes, not how they came about: that is [`super::engines`].

use softbpf::Outcome;
use softbpf::codec::Code;

use super::key::Kind;
use crate::MakeEngine;
use crate::fuzz::caught;
use crate::model::Observed;
use crate::subject::Answer;
use crate::{oracle, subject};

/// Who says what, where they differ.
pub(super) type Says = Vec<(String, String)>;

/// What a side comes to, or in words how it panicked.
pub(super) type Came<T> = Result<T, String>;

/// A difference.
#[derive(Debug, Clone)]
pub(super) struct Differs {
    pub(super) kind: Kind,
    pub(super) says: Says,
    /// What is right.
    pub(super) expected: Option<Answer>,
}

/// What engines, in their order, and the model, if it was asked, came to.
#[derive(Debug)]
pub(super) struct Sides {
    pub(super) engines: Vec<Came<Outcome>>,
    pub(super) model: Option<Came<Observed>>,
}

impl Sides {
    /// The outcome of the first engine.
    pub(super) fn first(&self) -> Option<&Outcome> {
        self.engines.first().and_then(|first| first.as_ref().ok())
    }

    /// Every engine ran the program to its end.
    pub(super) fn all_returned(&self) -> bool {
        self.engines.iter().all(|came| came.as_ref().is_ok_and(|outcome| outcome.ret.is_ok()))
    }

    /// How they differ, if they do.
    pub(super) fn differ(&self) -> Option<Kind> {
        if self.engines.iter().any(Result::is_err) || self.model.as_ref().is_some_and(Result::is_err) {
            return Some(Kind::Crashed);
        }
        let first = self.engines.first()?.as_ref().ok()?;
        let other = self.engines.iter().flatten().any(|other| other != first);
        let model = self.model.as_ref().and_then(|model| model.as_ref().ok());
        (other || model.is_some_and(|model| Observed::from(first) != *model)).then_some(Kind::OtherResult)
    }

    /// A difference between them, or with somebody else, who says so.
    pub(super) fn differs(
        &self,
        code: &Code,
        engines: &[(String, MakeEngine)],
        somebody: Option<(String, String)>,
    ) -> Option<Differs> {
        let kind = self.differ().or(somebody.is_some().then_some(Kind::OtherResult))?;
        let mut says = self.says(engines);
        says.extend(somebody);
        Some(Differs { kind, says, expected: self.expected(code) })
    }

    fn says(&self, engines: &[(String, MakeEngine)]) -> Says {
        let words = |came: &Came<Observed>| match came {
            Ok(observed) => format!("{observed}, memory {:02x?}", observed.context),
            Err(panic) => panic.clone(),
        };
        let model = self.model.iter().map(|model| ("model".to_owned(), words(model)));
        let named = engines.iter().zip(&self.engines);
        let engines = named
            .map(|((name, _), came)| (name.clone(), words(&came.as_ref().map(Observed::from).map_err(String::clone))));
        model.chain(engines).collect()
    }

    /// What is right: what the model says, without it what most engines do, the first of these where no more agree on
    /// something else. `None` when all have panicked.
    fn expected(&self, code: &Code) -> Option<Answer> {
        if let Some(Ok(model)) = &self.model {
            return Some(oracle::answer(model.clone(), code));
        }
        let ran: Vec<&Outcome> = self.engines.iter().flatten().collect();
        let agree = |one: &Outcome| ran.iter().filter(|&&other| other == one).count();
        // Of several, this takes the last.
        let most = ran.iter().rev().max_by_key(|&&outcome| agree(outcome))?;
        Some(subject::answer(Ok((*most).clone())))
    }
}

/// What comes of it, or in words how it panics: a finding like others. A machine that was cut off can be loaded again.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Came<T> {
    caught(run).map_err(|text| format!("panicked: {text}"))
}

#[cfg(test)]
mod tests {
    use softbpf::context::Bytes;
    use softbpf::program_type::ProgramType;

    use super::*;
    use crate::model::{self, Setup};

    /// A program that returns the first byte of its context, and what comes of it.
    fn code() -> Code {
        use softbpf::asm::{R0, R1};
        use softbpf::insn::{Insn, Size};
        vec![Insn::load(Size::B, R0, R1, 0), Insn::exit()].into()
    }

    fn outcome(value: u8) -> Came<Outcome> {
        use softbpf::object::MAIN;
        use softbpf::program::{Program, ProgramInfo};
        let program = Program::new(ProgramInfo::new(MAIN, ProgramType::Unspec), code()).map_err(|e| e.to_string())?;
        let object = softbpf::Object::from_programs(vec![program], Vec::new());
        let mut vm = softbpf::Machine::load(&object).map_err(|e| e.to_string())?;
        vm.run(MAIN, Bytes(&[value])).map_err(|e| e.to_string())
    }

    fn expected(engines: Vec<Came<Outcome>>, model: Option<u8>) -> (Option<Kind>, Option<u64>) {
        let model = model.map(|value| {
            let setup = Setup::of(ProgramType::Unspec, Bytes(&[value])).map_err(|e| e.to_string())?;
            Ok(model::run(&code(), &setup.with_context(&[value])))
        });
        let sides = Sides { engines, model };
        let r0 = match sides.expected(&code()) {
            Some(Answer::Returned { r0, .. }) => Some(r0),
            _ => None,
        };
        (sides.differ(), r0)
    }

    #[test]
    fn the_model_is_right_else_most_engines_else_the_first() {
        let (one, two) = (|| outcome(1), || outcome(2));
        let panicked = || Err("panicked".to_owned());
        let other = Some(Kind::OtherResult);
        assert_eq!(expected(vec![one(), one()], Some(1)), (None, Some(1)));
        assert_eq!(expected(vec![one(), one()], Some(2)), (other, Some(2)));
        assert_eq!(expected(vec![one(), two(), two()], None), (other, Some(2)));
        assert_eq!(expected(vec![one(), two()], None), (other, Some(1)));
        assert_eq!(expected(vec![panicked(), two()], None), (Some(Kind::Crashed), Some(2)));
        assert_eq!(expected(vec![panicked(), two()], Some(1)), (Some(Kind::Crashed), Some(1)));
        assert_eq!(expected(vec![panicked()], None), (Some(Kind::Crashed), None));
    }
}
