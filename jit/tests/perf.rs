//! What `perf` is told of compiled programs, read back.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use softbpf::context::Packet;
use softbpf::{Machine, Object};
use softbpf_jit::inspect::{Compilation, inspect};
use softbpf_jit::{Config, Perf, Unavailable, engine_with};

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

/// A program with two functions and line info.
const OBJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/objects/subprogs.bpf.o");
const PROGRAM: &str = "filter";

/// What the program is compiled to, wherever that lies.
fn compilation(object: &Object) -> TestResult<Compilation> {
    let mut vm = Machine::load(object)?;
    inspect(&mut vm, PROGRAM, Config::default())?.ok_or_else(|| "it is not compiled".into())
}

/// Runs the program.
fn run(object: &Object, perf: Perf) -> TestResult {
    let engine = engine_with(Config { perf, ..Config::default() })?;
    let mut vm = Machine::with_config(object, softbpf::Config { engine, ..softbpf::Config::default() })?;
    let _ = vm.run(PROGRAM, Packet::new([0; 64]))?;
    Ok(())
}

/// The functions' names and places in the code, and the stubs'.
fn expected(object: &Object, compilation: &Compilation) -> TestResult<Vec<(String, Vec<u8>)>> {
    let program = object.program(PROGRAM)?;
    let tag = program.tag();
    let place = |slot| {
        let index = program.code().index_at(slot).unwrap_or(compilation.insns.len() - 1);
        if slot >= program.code().slot_count() {
            compilation.insns[index].code.end
        } else {
            compilation.insns[index].code.start
        }
    };
    let functions = program.functions().iter().map(|function| {
        let range = place(function.slots.start)..place(function.slots.end);
        (format!("bpf_prog_{tag}_{}", function.name), compilation.code[range].to_vec())
    });
    let end = compilation.insns.last().map_or(0, |insn| insn.code.end);
    let stubs = (format!("bpf_prog_{tag}_{PROGRAM}.stubs"), compilation.code[end..].to_vec());
    Ok(functions.chain([stubs]).collect())
}

fn scratch(name: &str) -> std::io::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

#[test]
fn maps_name_functions_and_routines() -> TestResult {
    let object = Object::from_file(OBJECT)?;
    let path = format!("/tmp/perf-{}.map", std::process::id());
    // Of another process with this id, long ago.
    fs::write(&path, "1000 100 stale\n")?;
    fs::File::options().write(true).open(&path)?.set_modified(SystemTime::UNIX_EPOCH)?;
    let another = engine_with(Config { perf: Perf::Map, ..Config::default() });
    let outcome = run(&object, Perf::Map);
    let text = fs::read_to_string(&path);
    let mode = fs::metadata(&path).map(|metadata| metadata.permissions().mode());
    // Its name is not ours to choose, and it would stay.
    fs::remove_file(&path)?;
    another?;
    outcome?;
    let text = text?;
    assert_eq!(mode? & 0o777, 0o600);
    assert!(!text.contains("stale"), "{text}");
    assert_eq!(text.matches(" softbpf_leave\n").count(), 1, "routines are there once, however many engines there are");
    let mut symbols = Vec::new();
    for line in text.lines() {
        let [start, size, name] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        symbols.push((name, u64::from_str_radix(start, 16)?, u64::from_str_radix(size, 16)?));
    }
    for routine in ["softbpf_enter", "softbpf_leave", "softbpf_helper", "softbpf_check_read4", "softbpf_check_both8"] {
        assert!(symbols.iter().any(|(name, _, size)| *name == routine && *size > 0), "{routine}: {text}");
    }
    let programs: Vec<_> = symbols.iter().filter(|(name, ..)| name.starts_with("bpf_prog_")).collect();
    let expected = expected(&object, &compilation(&object)?)?;
    let (sizes, names): (Vec<_>, Vec<_>) = programs.iter().map(|(name, _, size)| (*size, *name)).unzip();
    assert_eq!(names, expected.iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert_eq!(sizes, expected.iter().map(|(_, code)| code.len() as u64).collect::<Vec<_>>());
    assert!(programs.windows(2).all(|pair| pair[0].1 + pair[0].2 == pair[1].1), "{text}");
    Ok(())
}

/// Takes a file apart.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn bytes(&mut self, count: usize) -> &'b [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    fn word(&mut self) -> u32 {
        u32::from_ne_bytes(self.bytes(4).try_into().unwrap())
    }

    fn long(&mut self) -> u64 {
        u64::from_ne_bytes(self.bytes(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap();
        let text = String::from_utf8(self.bytes(len).to_vec()).unwrap();
        self.bytes(1);
        text
    }
}

#[derive(Debug, Default, PartialEq)]
struct Dump {
    /// Names, addresses and code.
    loads: Vec<(String, u64, Vec<u8>)>,
    /// Numbers of the loads.
    indices: Vec<u64>,
    /// Addresses, lines and files, with the number of the load that they come before.
    lines: Vec<(usize, u64, u32, String)>,
    closed: usize,
}

fn dump(path: &Path) -> TestResult<Dump> {
    let bytes = fs::read(path)?;
    let mut reader = Reader(&bytes);
    assert_eq!([reader.word(), reader.word(), reader.word(), reader.word()], [0x4a69_5444, 1, 40, 62]);
    assert_eq!([reader.word(), reader.word()], [0, std::process::id()]);
    let mut time = reader.long();
    assert_eq!(reader.long(), 0);
    let mut dump = Dump::default();
    while !reader.0.is_empty() {
        let (id, size) = (reader.word(), reader.word() as usize);
        let later = reader.long();
        assert!(later >= time);
        time = later;
        let mut body = Reader(reader.bytes(size - 16));
        match id {
            0 => {
                assert_eq!(body.word(), std::process::id());
                body.word();
                let (vma, address, size) = (body.long(), body.long(), body.long());
                assert_eq!(vma, address);
                dump.indices.push(body.long());
                let name = body.text();
                dump.loads.push((name, address, body.bytes(size as usize).to_vec()));
            }
            2 => {
                body.long();
                for _ in 0..body.long() {
                    let (address, line) = (body.long(), body.word());
                    assert_eq!(body.word(), 0);
                    dump.lines.push((dump.loads.len(), address, line, body.text()));
                }
            }
            3 => dump.closed += 1,
            _ => panic!("a record {id}"),
        }
        assert!(body.0.is_empty());
    }
    Ok(dump)
}

#[test]
fn dumps_hold_the_code_and_its_lines() -> TestResult {
    let object = Object::from_file(OBJECT)?;
    let directory = scratch("dump")?;
    let path = directory.join(format!("jit-{}.dump", std::process::id()));
    // What another process with this id left.
    fs::write(&path, "stale")?;
    run(&object, Perf::JitDump { directory: directory.clone() })?;
    let first = dump(&path)?;
    let compilation = compilation(&object)?;
    let programs: Vec<_> = first.loads.iter().filter(|(name, ..)| name.starts_with("bpf_prog_")).collect();
    let code: Vec<_> = programs.iter().map(|(name, _, code)| (name.clone(), code.clone())).collect();
    assert_eq!(code, expected(&object, &compilation)?);
    assert!(first.loads.iter().any(|(name, ..)| name == "softbpf_slow"));
    assert_eq!(first.closed, 1);

    // Lines are those of the program, at the instructions that they belong to.
    let program = object.program(PROGRAM)?;
    let start = programs[0].1;
    let lines = program.lines().iter().map(|line| {
        let index = program.code().index_at(line.slot).unwrap();
        (start + compilation.insns[index].code.start as u64, line.line, line.file.to_owned())
    });
    let told: Vec<_> = first.lines.iter().map(|(_, address, line, file)| (*address, *line, file.clone())).collect();
    assert!(!told.is_empty());
    assert_eq!(told, lines.collect::<Vec<_>>());
    for (load, address, ..) in &first.lines {
        let (_, start, code) = &first.loads[*load];
        assert!((*start..start + code.len() as u64).contains(address));
    }

    // Another engine goes on in the same file, in which the routines are.
    run(&object, Perf::JitDump { directory: directory.clone() })?;
    let both = dump(&path)?;
    assert_eq!((both.loads.len(), both.closed), (first.loads.len() + programs.len(), 2));
    assert_eq!(both.loads[..first.loads.len()], first.loads[..]);
    let mut indices = both.indices.clone();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), both.indices.len());
    fs::remove_dir_all(directory)?;
    Ok(())
}

#[test]
fn files_that_are_not_ours_are_left_alone() -> TestResult {
    let directory = scratch("links")?;
    let path = directory.join(format!("jit-{}.dump", std::process::id()));
    let victim = directory.join("victim");
    fs::write(&victim, "precious")?;
    let refused =
        || match engine_with(Config { perf: Perf::JitDump { directory: directory.clone() }, ..Config::default() }) {
            Err(Unavailable::Perf { path: told, .. }) => assert_eq!(told, path),
            other => panic!("{other:?}"),
        };
    std::os::unix::fs::symlink(&victim, &path)?;
    refused();
    fs::remove_file(&path)?;
    fs::hard_link(&victim, &path)?;
    refused();
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    refused();
    fs::remove_dir(&path)?;
    fs::write(&path, "someone else's")?;
    // Only root can give files away.
    if std::os::unix::fs::chown(&path, Some(1), None).is_ok() {
        refused();
        assert_eq!(fs::read_to_string(&path)?, "someone else's");
    }
    assert_eq!(fs::read_to_string(&victim)?, "precious");
    fs::remove_dir_all(&directory)?;
    refused();
    Ok(())
}

#[test]
fn nothing_is_said_unasked() -> TestResult {
    let mut vm = Machine::load(&Object::from_file(OBJECT)?)?;
    let config = Config { perf: Perf::JitDump { directory: "/nowhere".into() }, ..Config::default() };
    assert!(inspect(&mut vm, PROGRAM, config)?.is_some(), "looking at code tells nobody");
    Ok(())
}
