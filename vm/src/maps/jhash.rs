//! Bob Jenkins' hash as the kernel has it, for what programs can see of it. `include/linux/jhash.h`.

/// Hash of 32-bit words: `jhash2` with initial value 0.
pub(super) fn jhash2(words: &[u32]) -> u32 {
    let mut state = [0xdead_beef_u32.wrapping_add((words.len() as u32) << 2); 3];
    let mut rest = words;
    while let Some((&[first, second, third], behind)) = rest.split_first_chunk()
        && !behind.is_empty()
    {
        add(&mut state, &[first, second, third]);
        mix(&mut state);
        rest = behind;
    }
    if !rest.is_empty() {
        add(&mut state, rest);
        finish(&mut state);
    }
    state[2]
}

fn add(state: &mut [u32; 3], words: &[u32]) {
    for (part, word) in state.iter_mut().zip(words) {
        *part = part.wrapping_add(*word);
    }
}

/// `__jhash_mix`.
fn mix(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    for rotations in [[4, 6, 8], [16, 19, 4]] {
        a = a.wrapping_sub(c) ^ c.rotate_left(rotations[0]);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(rotations[1]);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(rotations[2]);
        b = b.wrapping_add(a);
    }
    *state = [a, b, c];
}

/// `__jhash_final`.
fn finish(state: &mut [u32; 3]) {
    let [mut a, mut b, mut c] = *state;
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    *state = [a, b, c];
}
