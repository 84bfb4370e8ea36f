//! Places in a plugin's code where the time is looked at, beside those that wasmtime has.
//!
//! wasmtime looks at the epoch where a function begins and where a loop does. Between two of these an instance may do what takes long in itself: fill or copy all of its
//! memory, or pass megabytes to the host. A function of a megabyte is 100,000 of them in a row, and would hold its worker for an hour. So before each goes a
//! loop without a body, at whose begin the time is looked at: three bytes of code and two instructions of the processor. Those that may move all of a memory are done in
//! [`parts`]. What is left is bounded by the table's or the component's size, or by the limit of bytes in one call of the host.

mod parts;

use std::ops::Range;

use wasmparser::{BinaryReader, BinaryReaderError, CodeSectionReader, Operator};

use parts::{Added, Outline};

/// Returns the component, or core module, with the checkpoints in all of its code.
pub(crate) fn insert(binary: &[u8]) -> Result<Vec<u8>, BinaryReaderError> {
    let mut out = Vec::with_capacity(binary.len() + binary.len() / 64);
    rewrite(binary, &mut out)?;
    Ok(out)
}

fn rewrite(binary: &[u8], out: &mut Vec<u8>) -> Result<(), BinaryReaderError> {
    let mut reader = BinaryReader::new(binary, 0);
    let preamble = reader.read_bytes(PREAMBLE)?;
    out.extend_from_slice(preamble);
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let size = reader.read_var_u32()?;
        let content = reader.read_bytes(usize::try_from(size).unwrap_or(usize::MAX))?;
        sections.push((id, content));
    }
    if preamble.get(LAYER) == Some(&1) {
        component(&sections, out)
    } else {
        module(&sections, out)
    }
}

fn component(sections: &[(u8, &[u8])], out: &mut Vec<u8>) -> Result<(), BinaryReaderError> {
    for (id, content) in sections {
        out.push(*id);
        if matches!(*id, CORE_MODULE | COMPONENT) {
            let mut rewritten = Vec::new();
            rewrite(content, &mut rewritten)?;
            sized(&rewritten, out);
        } else {
            sized(content, out);
        }
    }
    Ok(())
}

fn module(sections: &[(u8, &[u8])], out: &mut Vec<u8>) -> Result<(), BinaryReaderError> {
    let outline = Outline::of(sections)?;
    let mut added = Added::default();
    let mut rewritten = Vec::new();
    for (id, content) in sections {
        if *id == CODE {
            code(content, &outline, &mut added, &mut rewritten)?;
        }
    }
    for (id, content) in sections {
        let extended = added.extend(*id, content, &outline)?;
        let content = match *id {
            CODE => &*rewritten,
            // Hints for branches say where these are in the code, and they are there no longer.
            CUSTOM if is_hints(content) => continue,
            _ => extended.as_deref().unwrap_or(content),
        };
        out.push(*id);
        sized(content, out);
    }
    Ok(())
}

fn is_hints(content: &[u8]) -> bool {
    let name = BinaryReader::new(content, 0).read_string();
    name.is_ok_and(|name| name == "metadata.code.branch_hint")
}

fn code(
    content: &[u8],
    outline: &Outline,
    added: &mut Added,
    out: &mut Vec<u8>,
) -> Result<(), BinaryReaderError> {
    let functions = CodeSectionReader::new(BinaryReader::new(content, 0))?;
    let count = functions.count();
    let mut bodies = Vec::with_capacity(content.len());
    let mut body = Vec::new();
    for function in functions {
        let function = function?;
        body.clear();
        let Range { start, end } = function.range();
        let mut copied = start;
        let mut operators = function.get_operators_reader()?;
        while !operators.eof() {
            let at = operators.original_position();
            let operator = operators.read()?;
            if !takes_long(&operator, outline.imported) {
                continue;
            }
            body.extend_from_slice(content.get(copied..at).unwrap_or_default());
            copied = at;
            if let Some(function) = added.instead_of(&operator, outline) {
                // The time is looked at where it begins.
                body.push(CALL);
                leb(function, &mut body);
                copied = operators.original_position();
            } else {
                body.extend_from_slice(&EMPTY_LOOP);
            }
        }
        body.extend_from_slice(content.get(copied..end).unwrap_or_default());
        sized(&body, &mut bodies);
    }
    leb(count.saturating_add(added.count()), out);
    out.extend_from_slice(&bodies);
    added.encode(out);
    Ok(())
}

/// Returns whether an instruction may take long although it is one. A function that is called by its address may be the host's.
fn takes_long(operator: &Operator<'_>, imported: u32) -> bool {
    match operator {
        Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
            *function_index < imported
        }
        Operator::CallIndirect { .. }
        | Operator::ReturnCallIndirect { .. }
        | Operator::CallRef { .. }
        | Operator::ReturnCallRef { .. }
        | Operator::MemoryFill { .. }
        | Operator::MemoryCopy { .. }
        | Operator::MemoryInit { .. }
        | Operator::MemoryGrow { .. }
        | Operator::TableFill { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. }
        | Operator::TableGrow { .. } => true,
        _ => false,
    }
}

fn sized(content: &[u8], out: &mut Vec<u8>) {
    // More than 4 GiB no component has: it was read with a length of 32 bits, and grows by a part.
    leb(u32::try_from(content.len()).unwrap_or(u32::MAX), out);
    out.extend_from_slice(content);
}

/// Appends a number as LEB128, seven bits a byte.
fn leb(mut value: u32, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            out.push(low & 0x7f);
            return;
        }
        out.push(low | 0x80);
    }
}

/// `loop`, of no type, `end`.
const EMPTY_LOOP: [u8; 3] = [0x03, 0x40, 0x0b];

/// `call`.
const CALL: u8 = 0x10;

/// Bytes before the first section.
const PREAMBLE: usize = 8;

/// Where the preamble tells a component from a core module.
const LAYER: usize = 6;

/// Sections of core modules.
const CUSTOM: u8 = 0;
const TYPES: u8 = 1;
const IMPORTS: u8 = 2;
const FUNCTIONS: u8 = 3;
const MEMORIES: u8 = 5;
const CODE: u8 = 10;

/// Sections of components.
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;

#[cfg(test)]
mod tests {
    use wasmparser::Validator;

    use super::*;

    fn inserted(text: &str) -> (Vec<u8>, Vec<u8>) {
        let binary = wat::parse_str(text).unwrap();
        let inserted = insert(&binary).unwrap();
        Validator::new().validate_all(&inserted).unwrap();
        (binary, inserted)
    }

    fn loops(binary: &[u8]) -> usize {
        binary.windows(3).filter(|it| *it == EMPTY_LOOP).count()
    }

    #[test]
    fn what_takes_long_is_preceded_by_a_look_at_the_time() {
        let text = r#"(component (core module
            (import "" "host" (func $host (param i32)))
            (memory 1) (table 1 funcref) (data $data "data")
            (func $own (param i32))
            (func (param $far i32)
                (call $own (i32.const 1))
                (call $host (i32.const 1))
                (memory.init $data (i32.const 0) (i32.const 1) (i32.const 2))
                (if (local.get $far) (then (call_indirect (param i32) (i32.const 1) (i32.const 0))))
                (drop (memory.grow (i32.const 1)))
                unreachable
                (call $host)))
            (component (core module (table 1 funcref)
                (func (table.copy (i32.const 0) (i32.const 1) (i32.const 2))))))"#;
        let (binary, inserted) = inserted(text);
        assert_eq!(loops(&binary), 0);
        assert_eq!(loops(&inserted), 6);
        assert_eq!(inserted.len() - binary.len(), 6 * EMPTY_LOOP.len());
    }

    #[test]
    fn what_takes_no_time_stays_as_it_is() {
        let (binary, inserted) = inserted(
            "(module (func $f (result i32) (i32.add (call $f) (loop (result i32) (i32.const 1)))))",
        );
        assert_eq!(binary, inserted);
    }

    #[test]
    fn what_is_cut_is_an_error() {
        let binary =
            wat::parse_str("(module (memory 1) (func (drop (memory.grow (i32.const 1)))))");
        let binary = binary.unwrap();
        for end in 9..binary.len() {
            // Some cuts are between sections.
            if let Ok(inserted) = insert(&binary[..end]) {
                assert_eq!(inserted[..], binary[..end]);
            }
        }
    }
}
