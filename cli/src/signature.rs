//! A function's declaration out of BTF, as bpftool writes it above a function: `int f(struct pt_regs * ctx)`.
//!
//! bpftool's `btf_dumper_type_only`.

use std::fmt::Write as _;

use softbpf::btf::{Btf, Kind, Modifier, TypeId};

/// Pointers and qualifiers in a row that are followed.
const MAX_DEPTH: usize = 32;

/// The declaration of the function with this name.
pub(crate) fn signature(btf: &Btf, name: &str) -> Option<String> {
    let function = btf.find(name, |kind| matches!(kind, Kind::Func { .. }))?;
    let Kind::Func { proto, .. } = btf.kind(function).ok()? else { return None };
    let mut text = String::new();
    declaration(btf, *proto, name, 0, &mut text)?;
    Some(text)
}

/// `RESULT NAME(PARAMETERS)`.
fn declaration(btf: &Btf, proto: TypeId, name: &str, depth: usize, text: &mut String) -> Option<()> {
    let Kind::FuncProto { result, params } = btf.kind(proto).ok()? else { return None };
    type_only(btf, *result, depth + 1, text)?;
    write!(text, "{name}(").ok()?;
    for (index, param) in params.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        if param.type_id == TypeId::VOID {
            text.push_str("...");
            continue;
        }
        type_only(btf, param.type_id, depth + 1, text)?;
        text.push_str(btf.text(param.name));
    }
    text.push(')');
    Some(())
}

/// The type and a space.
fn type_only(btf: &Btf, id: TypeId, depth: usize, text: &mut String) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    let name = btf.name(id);
    match btf.kind(id).ok()? {
        Kind::Void => text.push_str("void "),
        Kind::Int { .. } | Kind::Float { .. } | Kind::Modifier(Modifier::Typedef, _) => write!(text, "{name} ").ok()?,
        Kind::Struct { .. } | Kind::Fwd { union: false } => write!(text, "struct {name} ").ok()?,
        Kind::Union { .. } | Kind::Fwd { union: true } => write!(text, "union {name} ").ok()?,
        Kind::Enum { .. } => write!(text, "enum {name} ").ok()?,
        Kind::Array { element, count, .. } => {
            type_only(btf, *element, depth + 1, text)?;
            write!(text, "[{count}]").ok()?;
        }
        Kind::Ptr(target) => {
            type_only(btf, *target, depth + 1, text)?;
            text.push_str("* ");
        }
        Kind::Modifier(modifier, target) => {
            text.push_str(match modifier {
                Modifier::Volatile => "volatile ",
                Modifier::Const => "const ",
                Modifier::Restrict => "restrict ",
                Modifier::Typedef | Modifier::TypeTag => "",
            });
            type_only(btf, *target, depth + 1, text)?;
        }
        Kind::FuncProto { .. } => declaration(btf, id, name, depth + 1, text)?,
        Kind::Func { .. } | Kind::Var { .. } | Kind::DataSec { .. } | Kind::DeclTag { .. } => return None,
    }
    Some(())
}
