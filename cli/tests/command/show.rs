//! Programs and maps of objects.

use expect_test::expect;

use crate::{check, check_file, fixtures, stdout};

#[test]
fn a_legacy_object() {
    check(
        &["show", "tracex4_kern.o"],
        expect![[r#"
            license: GPL
            version: 5.4.0

            0: kprobe  name bpf_prog1  tag a6cfc4a29f52a193  gpl
            	tag_sha256 2c9ed4cd72e21f68 (since Linux 6.18)
            	section kprobe/kmem_cache_free
            	xlated 72B  insns 9  map_ids 0
            1: kprobe  name bpf_prog2  tag d16c41919f3b767a  gpl
            	tag_sha256 14100aae6845d89f (since Linux 6.18)
            	section kretprobe/kmem_cache_alloc_node
            	xlated 192B  insns 24  map_ids 0

            0: hash  name my_map  flags 0x0
            	key 8B  value 16B  max_entries 1000000
        "#]],
    );
}

#[test]
fn many_programs_and_maps() {
    check(
        &["show", "tailcall.bpf.o"],
        expect![[r#"
        license: Dual MIT/GPL

        0: kprobe  name open_report  tag a3b3ac77ba70fd6c  gpl
        	tag_sha256 5c3403fb14154325 (since Linux 6.18)
        	section kprobe/vfs_open
        	xlated 224B  insns 28  map_ids 2,3
        1: kprobe  name spin  tag b592065466843378  gpl
        	tag_sha256 f419a595ff5b5d6d (since Linux 6.18)
        	section kprobe/vfs_read
        	xlated 240B  insns 30  map_ids 1,4
        2: kprobe  name open_enter  tag 9a27eaac7be7e5c5  gpl
        	tag_sha256 e05081fd0a6d2c0e (since Linux 6.18)
        	section kprobe/do_sys_open
        	xlated 264B  insns 33  map_ids 0,2,4

        0: prog_array  name programs  flags 0x0
        	key 4B  value 4B  max_entries 4
        1: prog_array  name myself  flags 0x0
        	key 4B  value 4B  max_entries 1
        2: percpu_array  name scratch  flags 0x0
        	key 4B  value 16B  max_entries 1
        3: perf_event_array  name events  flags 0x0
        	key 4B  value 4B  max_entries 0
        4: array  name counters  flags 0x0
        	key 4B  value 8B  max_entries 3
    "#]],
    );
}

#[test]
fn json() {
    check(
        &["show", "xdp_count.bpf.o", "--json"],
        expect![[r#"
            {
              "license": "Dual MIT/GPL",
              "version": null,
              "programs": [
                {
                  "id": 0,
                  "type": "xdp",
                  "name": "xdp_count",
                  "tag": "144a07d3763e513d",
                  "tag_sha256": "bdc3559b221b5191",
                  "gpl_compatible": true,
                  "section": "xdp",
                  "bytes_xlated": 504,
                  "insns": 63,
                  "map_ids": [
                    0,
                    1
                  ]
                }
              ],
              "maps": [
                {
                  "id": 0,
                  "type": "percpu_array",
                  "name": "counters",
                  "flags": 0,
                  "bytes_key": 4,
                  "bytes_value": 16,
                  "max_entries": 4
                },
                {
                  "id": 1,
                  "type": "array",
                  "name": ".rodata",
                  "flags": 1152,
                  "bytes_key": 4,
                  "bytes_value": 2,
                  "max_entries": 1
                }
              ]
            }
        "#]],
    );
}

#[test]
fn text() {
    check_file(
        "show.s",
        b"r0 = 1\nexit\n",
        &["show", "FILE"],
        expect![[r#"
        0: unspec  name main  tag 57cd311f2e27366b
        	tag_sha256 b11459a0e11ca14c (since Linux 6.18)
        	xlated 16B  insns 2
    "#]],
    );
}

/// Every program of every fixture has the tags that bpftool and the kernel gave it.
#[test]
fn tags_are_the_kernels() {
    let tags = std::fs::read_to_string(fixtures().join("tags.txt")).unwrap();
    let mut compared = 0;
    // Nothing can run everyop, whose jumps lead out of it.
    for line in tags.lines().filter(|line| !line.starts_with('#') && !line.contains(" everyop ")) {
        let [object, program, sha1, _, sha256] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let shown = stdout(&["show", object]);
        assert!(shown.contains(&format!("name {program}  tag {sha1}")), "{line}\n{shown}");
        assert!(shown.contains(&format!("tag_sha256 {sha256} ")), "{line}\n{shown}");
        compared += 1;
    }
    assert!(compared > 30);
}
