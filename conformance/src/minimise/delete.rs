//! Leaves out instructions: large ranges first, then smaller ones, the last of the program first, as what comes after
//! the fault is most often not needed at all.

use super::Try;
use super::flow::{Node, code, nodes, without};

/// One round over all programs.
pub(super) fn pass(search: &mut dyn Try) {
    for program in 0..search.best().programs.len() {
        let mut size = length(search, program) / 2;
        while size > 0 {
            ranges(search, program, size);
            size /= 2;
        }
        pairs(search, program);
    }
}

fn length(search: &dyn Try, program: usize) -> usize {
    search.best().programs.get(program).map_or(0, |code| code.insns().len())
}

fn of(search: &dyn Try, program: usize) -> Vec<Node> {
    search.best().programs.get(program).map_or_else(Vec::new, nodes)
}

/// Tries to leave out each range of so many instructions.
fn ranges(search: &mut dyn Try, program: usize, size: usize) {
    // The last instruction ends the program.
    let mut end = length(search, program);
    while end > 0 {
        let start = end.saturating_sub(size);
        let left = without(&of(search, program), |index| (start..end).contains(&index));
        search.attempt_program(program, code(&left));
        end = start;
    }
}

/// Programs of at most so many instructions are tried without any two of them: a value and what takes it away again.
const FEW: usize = 24;

fn pairs(search: &mut dyn Try, program: usize) {
    let count = length(search, program);
    if count > FEW {
        return;
    }
    for first in 0..count {
        for second in first + 1..count {
            let now = of(search, program);
            if second < now.len() {
                let left = without(&now, |index| index == first || index == second);
                search.attempt_program(program, code(&left));
            }
        }
    }
}
