//! A finding, and the files that replay it: a vector, bytecode, and a Rust test.

use std::fmt::Write as _;
use std::time::Duration;

use softbpf::codec::{Code, SLOT_BYTES};

use super::key::Key;
use crate::case::{End, Expect};
use crate::generator::scenario::{Input, Scenario};
use crate::subject::{Answer, State};

/// What shows a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A program, or bytes that are none, and the memory behind `r1`.
    Bytes {
        /// The program.
        bytecode: Vec<u8>,
        /// The memory.
        memory: Vec<u8>,
    },
    /// A program that needs what [`hostile`](crate::hostile) gives it: maps, little fuel, a tail call of itself.
    Hostile(Vec<u8>),
    /// Programs with maps.
    Scenario(Box<Scenario>),
}

/// A difference, once however often it was met.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What it is about.
    pub key: Key,
    /// Number of the generated program that showed it.
    pub seed: u64,
    /// The smallest program that was found to show it.
    pub program: Program,
    /// How one program ends where it is right: as the model says, without it as most engines do. `None` for programs with
    /// maps, whose tests ask again, and when nobody knows.
    pub expected: Option<Expect>,
    /// It is known to be the smallest: time and patience were enough.
    pub minimised: bool,
    /// Who says what.
    pub says: Vec<(String, String)>,
    /// How many programs have shown it. Most are kept from doing so once it is known.
    pub count: u64,
    /// When it was found, since the start.
    pub after: Duration,
}

impl Finding {
    /// Instructions of the program; slots of bytes that are none.
    pub fn instructions(&self) -> usize {
        match &self.program {
            Program::Bytes { bytecode, .. } | Program::Hostile(bytecode) => {
                Code::decode(bytecode).map_or(bytecode.len().div_ceil(SLOT_BYTES), |code| code.insns().len())
            }
            Program::Scenario(scenario) => scenario.programs.iter().map(|code| code.insns().len()).sum(),
        }
    }

    /// A name for files and functions: letters, digits and underscores.
    pub fn name(&self) -> String {
        let mut name = String::new();
        for c in self.key.to_string().chars() {
            if c.is_ascii_alphanumeric() {
                name.push(c.to_ascii_lowercase());
            } else if !name.ends_with('_') {
                name.push('_');
            }
        }
        let name: String = name.trim_matches('_').chars().take(100).collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) { format!("at_{name}") } else { name }
    }

    /// The program, a line an instruction.
    pub fn listing(&self) -> Vec<String> {
        match &self.program {
            Program::Bytes { bytecode, .. } | Program::Hostile(bytecode) => lines(bytecode),
            Program::Scenario(scenario) => scenario.to_string().lines().map(str::to_owned).collect(),
        }
    }

    /// The program as bytecode, if it is but one.
    pub fn bytecode(&self) -> Option<&[u8]> {
        match &self.program {
            Program::Bytes { bytecode, .. } | Program::Hostile(bytecode) => Some(bytecode),
            Program::Scenario(_) => None,
        }
    }

    /// A conformance vector; none for programs with maps, or when nobody knows what is right.
    pub fn vector(&self) -> Option<String> {
        let (Program::Bytes { bytecode, memory }, Some(expected)) = (&self.program, &self.expected) else {
            return None;
        };
        let mut text = format!("# Program {} of softbpf fuzz isa.\n", self.seed);
        for (who, what) in &self.says {
            let _ = writeln!(text, "# {}: {}", plain(who), plain(what));
        }
        let _ = writeln!(text, "== {}", self.key);
        for line in lines(bytecode) {
            let _ = writeln!(text, "    {line}");
        }
        if !memory.is_empty() {
            let _ = writeln!(text, "memory: {}", hex(memory));
        }
        let _ = writeln!(text, "rules: mask shifts");
        text.push_str(&expectation(expected)?);
        Some(text)
    }

    /// A test that holds every engine to it, a function of this name: [`Finding::name`], or that with a number.
    pub fn rust_test(&self, name: &str) -> String {
        match (&self.program, self.vector()) {
            (Program::Scenario(scenario), _) => scenario_test(name, self.seed, scenario),
            (Program::Bytes { .. }, Some(vector)) => vector_test(name, &vector),
            (Program::Bytes { bytecode, .. } | Program::Hostile(bytecode), _) => {
                hostile_test(name, self.seed, bytecode)
            }
        }
    }
}

/// The end that an answer makes expected of a program on this memory; none when it is no end.
pub(super) fn expect(answer: Answer, memory: &[u8]) -> Option<Expect> {
    let (end, state) = match answer {
        Answer::Returned { r0, state } => (End::Returns(r0), state),
        Answer::Trapped { name, slot, state, .. } => (End::Traps(name, slot), state),
        Answer::Rejected { reason, slot, .. } => (End::Rejected(reason, slot), State::default()),
        Answer::Failed { .. } | Answer::Crashed { .. } | Answer::Skipped { .. } => return None,
    };
    Some(Expect { end, after: state.memory.filter(|after| after != memory), instructions: None })
}

/// The lines that say what is expected; vectors have none for just any error.
fn expectation(Expect { end, after, .. }: &Expect) -> Option<String> {
    let after = after.as_ref().map_or_else(String::new, |after| format!("after: {}\n", hex(after)));
    match end {
        End::Returns(r0) => Some(format!("{after}r0: {r0:#x}\n")),
        End::Traps(name, slot) => Some(format!("{after}trap: {name} at {slot}\n")),
        End::Rejected(reason, slot) => Some(format!("reject: {reason} at {slot}\n")),
        End::Fails => None,
    }
}

/// What somebody else's program says, on one line, without what changes how text around it is read: control characters,
/// and those that turn the direction of text (Unicode Standard Annex 9).
fn plain(text: &str) -> String {
    let turns =
        |c| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).collect()
}

/// A line an instruction: assembly where that comes to the same bytes, else the fields.
fn lines(bytecode: &[u8]) -> Vec<String> {
    let assembly = || {
        let code = Code::decode(bytecode).ok()?;
        let lines: Vec<String> = code.insns().iter().map(ToString::to_string).collect();
        let again = softbpf::text::parse::parse(&lines.join("\n")).ok()?;
        (again.references.is_empty() && again.code == code).then_some(lines)
    };
    assembly().unwrap_or_else(|| bytecode.chunks(SLOT_BYTES).map(slot).collect())
}

/// A slot by its fields, or the bytes of what is none.
fn slot(bytes: &[u8]) -> String {
    let &[opcode, registers, a, b, c, d, e, f] = bytes else { return format!("bytes {}", hex(bytes)) };
    let mut text = format!("slot {opcode:#04x}");
    let (off, imm) = (i16::from_le_bytes([a, b]).into(), i32::from_le_bytes([c, d, e, f]));
    let fields = [("dst", i32::from(registers & 15)), ("src", i32::from(registers >> 4)), ("off", off), ("imm", imm)];
    for (name, value) in fields {
        if value != 0 {
            let _ = write!(text, " {name}={value}");
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn vector_test(name: &str, vector: &str) -> String {
    format!(
        "#[test]\nfn {name}() {{\n    use softbpf_conformance::subject::{{EngineSubject, Subject as _}};\n    \
         use softbpf_conformance::verdict::{{Verdict, judge}};\n\n    let text = {vector:?};\n    \
         for case in softbpf_conformance::vectors::parse(\"{name}.vec\", text).unwrap() {{\n        \
         for engine in softbpf_conformance::engines() {{\n            \
         let answer = EngineSubject::new(engine).run(&case);\n            \
         assert_eq!(judge(&case, &answer), Verdict::Passed);\n        }}\n    }}\n}}\n"
    )
}

/// A test that holds engines to each other, and to what the bytes are.
fn hostile_test(name: &str, seed: u64, bytecode: &[u8]) -> String {
    let comments: String = lines(bytecode).iter().map(|line| format!("    // {line}\n")).collect();
    format!(
        "/// Program {seed} of softbpf fuzz isa.\n#[test]\nfn {name}() {{\n    use softbpf::codec::Code;\n    \
         use softbpf_conformance::hostile;\n\n{comments}    let bytes: &[u8] = &{bytecode:?};\n    \
         let code = Code::decode(bytes).unwrap();\n    assert_eq!(code.encode().unwrap(), bytes);\n    \
         hostile::assert_agreement(&hostile::object_of(code).unwrap());\n}}\n"
    )
}

fn scenario_test(name: &str, seed: u64, scenario: &Scenario) -> String {
    let Scenario { programs, layout, slots, input, cpu, fuel, runs } = scenario;
    let (variant, bytes) = match input {
        Input::Bytes(bytes) => ("Bytes", bytes),
        Input::Packet(bytes) => ("Packet", bytes),
    };
    let mut text = format!(
        "/// Program {seed} of softbpf fuzz isa.\n#[test]\nfn {name}() {{\n    use softbpf::codec::Code;\n    \
         use softbpf_conformance::generator::scenario::{{Input, Scenario}};\n    \
         use softbpf_conformance::model::scenario::{{Setups, compare}};\n    \
         use softbpf_conformance::{{engines, reusable::Reusable}};\n\n    let programs: &[&[u8]] = &[\n"
    );
    for code in programs {
        for (_, insn) in code.iter() {
            let _ = writeln!(text, "        // {insn}");
        }
        let _ = writeln!(text, "        &{:?},", code.encode().unwrap_or_default());
    }
    let _ = write!(
        text,
        "    ];\n    let scenario = Scenario {{\n        \
         programs: programs.iter().map(|bytes| Code::decode(bytes).unwrap()).collect(),\n        \
         layout: {layout},\n        slots: {:?}.into_iter().collect(),\n        \
         input: Input::{variant}(vec!{bytes:?}),\n        cpu: {cpu},\n        fuel: {fuel},\n        \
         runs: {runs},\n    }};\n    let mut setups = Setups::default();\n    \
         let setup = setups.of(&scenario).unwrap();\n    \
         let (_, difference) = compare(&scenario, setup, &mut Reusable::on(engines())).unwrap();\n    \
         assert!(difference.is_none(), \"{{}}\", difference.unwrap());\n}}\n",
        slots.iter().collect::<Vec<_>>()
    );
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use softbpf::asm::R0;
    use softbpf::insn::Insn;

    use super::super::{About, Kind};
    use super::*;

    fn finding(what: &str) -> Finding {
        let bytecode = Code::from(vec![Insn::mov(R0, 1), Insn::exit()]).encode().unwrap_or_default();
        Finding {
            key: Key { about: About::Rows(BTreeSet::from([Insn::mov(R0, 0)])), kind: Kind::OtherResult },
            seed: 7,
            program: Program::Bytes { bytecode, memory: Vec::new() },
            expected: Some(Expect { end: End::Returns(2), after: None, instructions: None }),
            minimised: true,
            says: vec![("a\nplugin".to_owned(), what.to_owned())],
            count: 1,
            after: Duration::ZERO,
        }
    }

    /// The program returns 1, here; a finding may be just about that.
    #[test]
    fn the_vector_expects_what_the_finding_says() {
        let mut finding = finding("r0 = 1");
        assert!(finding.vector().is_some_and(|text| text.ends_with("\nr0: 0x2\n")), "{:?}", finding.vector());
        let end = End::Traps("out of bounds".to_owned(), 1);
        finding.expected = Some(Expect { end, after: Some(vec![1, 2]), instructions: None });
        let vector = finding.vector().unwrap_or_default();
        assert!(vector.ends_with("\nafter: 01 02\ntrap: out of bounds at 1\n"), "{vector}");
        finding.expected = None;
        assert_eq!(finding.vector(), None);
        assert!(finding.rust_test("finding").contains("hostile::assert_agreement"));
    }

    #[test]
    fn whatever_a_plugin_says_the_files_are_what_they_should_be() {
        for what in ["\"#; panic!(); r#\"", "a\nb\r== c\u{2028}== d\u{85}e", "\u{202e}\u{2066}\u{0}\u{1b}[31m\\", "{0}"]
        {
            let finding = finding(what);
            let vector = finding.vector().unwrap_or_default();
            let cases =
                crate::vectors::parse("finding.vec", &vector).unwrap_or_else(|error| panic!("{error}: {vector}"));
            assert_eq!(cases.len(), 1, "{vector}");
            assert!(vector.chars().all(|c| c == '\n' || plain(&c.to_string()) == c.to_string()), "{vector:?}");
            // One line, and one literal: nothing that is said can end it.
            let test = finding.rust_test("finding");
            assert!(test.lines().any(|line| line.trim() == format!("let text = {vector:?};")), "{test}");
            assert_eq!(test.lines().count(), 13, "{test}");
        }
    }
}
