//! `softbpf fuzz isa`: engines that agree, another implementation that does not, and the files that are left.

use std::path::Path;

use expect_test::expect;

use crate::{check, scratch, softbpf, transcript};

/// What is the same in every run: no times and rates.
fn steady(text: &str) -> String {
    let line = |line: &str| {
        let line = line.split(", after").next().unwrap_or_default();
        line.split(" execution").next().unwrap_or_default().to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn in_folder(folder: &Path, args: &[&str]) -> String {
    let output = softbpf(args).current_dir(folder).output().expect("it starts");
    transcript(&output)
}

#[test]
fn engines_agree() {
    let args = ["fuzz", "isa", "--engine", "interpreter", "--programs", "30", "--inputs", "2", "--no-traps"];
    let text = in_folder(&scratch("fuzz-isa-agree"), &args);
    assert!(text.starts_with("compared  interpreter, model\n"), "{text}");
    assert!(text.contains("samples   10 generated, 100.0%") && text.contains(": 0 findings\n"), "{text}");
    assert!(!text.contains("status"), "{text}");
}

#[test]
fn json_has_the_rates() {
    let args = ["fuzz", "isa", "--engine", "interpreter", "--programs", "9", "--inputs", "2", "--json", "--jobs", "1"];
    let text = in_folder(&scratch("fuzz-isa-json"), &args);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(json["executions_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{text}");
    // Three samples on two inputs, three scenarios that run once or twice, three streams that may be refused.
    assert!(json["executions"].as_u64().is_some_and(|executions| (9..=15).contains(&executions)), "{text}");
    assert_eq!((&json["programs"], &json["findings"]), (&9.into(), &serde_json::json!([])));
    assert_eq!(json["accepted"]["samples"]["made"], 3);
}

/// An implementation that returns 42, whatever it is asked.
#[cfg(unix)]
#[test]
fn another_implementation_is_found_out() {
    let folder = scratch("fuzz-isa-against");
    let _ = std::fs::remove_dir_all(folder.join("findings"));
    let text = "#!/bin/sh\necho 2a\n";
    let plugin = folder.join("forty-two");
    std::fs::write(&plugin, text).expect("it can be written");
    std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let args = ["fuzz", "isa", "--against", "./forty-two", "--seed", "1", "--programs", "1", "--jobs", "1"];
    let said = in_folder(&folder, &[&args[..], &["--no-jumps", "--no-calls", "--only-valid"]].concat());
    expect![[r#"
        compared  forty-two
        with      the reference model

        mov64 imm: another result
            r0 = 0x0
            exit
          expected  r0 = 0x0
          forty-two r0 = 0x2a
          program 1

        programs  1 generated, 100.0% accepted
        1
        saved in findings
        --- status 1"#]]
    .assert_eq(&steady(&said));
    let saved = folder.join("findings/mov64_imm_another_result.vec");
    let vector = std::fs::read_to_string(&saved).expect("it was saved");
    expect![[r#"
        # Program 1 of softbpf fuzz isa.
        # expected: r0 = 0x0
        # forty-two: r0 = 0x2a
        == mov64 imm: another result
            r0 = 0x0
            exit
        rules: mask shifts
        r0: 0x0
    "#]]
    .assert_eq(&vector);
    // The vector fails there and passes here; the bytecode runs.
    let saved = saved.to_str().expect("text");
    assert!(in_folder(&folder, &["conform", saved, "--plugin", "./forty-two"]).contains("--- status 1"));
    assert!(!in_folder(&folder, &["conform", saved]).contains("status"));
    let run = in_folder(&folder, &["run", "findings/mov64_imm_another_result.bin", "--type", "unspec"]);
    assert!(run.contains("returned      0 (0x0)"), "{run}");
}

/// A plugin that is gone, or never answers, ends the campaign; what it showed before is saved, and reported.
#[cfg(unix)]
#[test]
fn what_was_found_before_an_error_is_saved() {
    let folder = scratch("fuzz-isa-gone");
    let _ = std::fs::remove_dir_all(folder.join("findings"));
    // It answers wrongly, and is gone once the first finding is saved.
    let text = "#!/bin/sh\n[ -d findings ] && rm \"$0\"\necho 2a\n";
    let plugin = folder.join("gone");
    std::fs::write(&plugin, text).expect("it can be written");
    std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let args = ["fuzz", "isa", "--against", "./gone", "--seed", "1", "--programs", "200", "--jobs", "2"];
    let said = in_folder(&folder, &[&args[..], &["--no-jumps", "--no-calls", "--only-valid"]].concat());
    assert!(said.contains("mov64 imm: another result") && said.contains("saved in findings"), "{said}");
    assert!(said.contains("gone: No such file or directory") && said.contains("--- status 2"), "{said}");
    assert!(folder.join("findings/mov64_imm_another_result.vec").exists());
}

#[test]
fn what_cannot_be_fuzzed() {
    check(
        &["fuzz", "isa", "--against", "./nowhere"],
        expect![[r#"
            --- standard error
            error: ./nowhere: No such file or directory (os error 2)
            --- status 2
        "#]],
    );
    check(
        &["fuzz", "isa", "--against", "/bin/false"],
        expect![[r#"
            --- standard error
            error: this is no plugin: asked for a program that returns 42, it said error: exit status 1
            --- status 2
        "#]],
    );
    check(
        &["fuzz", "isa", "--engine", "interpreter", "--no-model"],
        expect![[r#"
            --- standard error
            error: there is only interpreter: nothing to compare it with
            --- status 2
        "#]],
    );
    check(
        &["fuzz", "isa", "--jobs", "1000000"],
        expect![[r#"
        --- standard error
        error: invalid value '1000000' for '--jobs <N>': 1000000 is not in 1..=256

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check(
        &["fuzz", "isa", "--engine", "warp"],
        expect![[r#"
            --- standard error
            error: invalid value 'warp' for '--engine <ENGINE>'
              [possible values: interpreter, jit, jit-unproved, jit-baseline, auto]

            For more information, try '--help'.
            --- status 2
        "#]],
    );
}
