//! Filling and copying memory in parts: what stands in the place of the two instructions that may move all of a memory at once.
//!
//! A module that has one gets a function for it, the last of its functions, and calls it instead. Between two parts the time is looked at, as in any loop. What the
//! instruction would refuse is refused as before: the function has the instruction itself fail before anything is moved.

use wasm_encoder::{BlockType, Encode as _, Function, InstructionSink, ValType};
use wasmparser::{
    BinaryReader, BinaryReaderError, FunctionSectionReader, ImportSectionReader,
    MemorySectionReader, MemoryType, Operator, TypeRef, TypeSectionReader,
};

use super::{FUNCTIONS, IMPORTS, MEMORIES, TYPES, leb};

/// What is known of a module before its code.
#[derive(Debug, Default)]
pub(super) struct Outline {
    types: u32,
    pub(super) imported: u32,
    functions: u32,
    /// Whether each memory is of the usual kind: addresses of 32 bits, pages of 64 KiB, nobody else writes.
    memories: Vec<bool>,
}

/// An instruction that may take long, with the memories that it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Long {
    Fill(u32),
    /// To the first from the second.
    Copy(u32, u32),
}

/// The functions that a module gets.
#[derive(Debug, Default)]
pub(super) struct Added(Vec<Long>);

impl Outline {
    pub(super) fn of(sections: &[(u8, &[u8])]) -> Result<Self, BinaryReaderError> {
        let mut outline = Self::default();
        for (id, content) in sections {
            let reader = BinaryReader::new(content, 0);
            match *id {
                TYPES => {
                    for group in TypeSectionReader::new(reader)? {
                        outline.types += count(group?.types().len());
                    }
                }
                IMPORTS => {
                    for import in ImportSectionReader::new(reader)?.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => outline.imported += 1,
                            TypeRef::Memory(memory) => outline.memories.push(is_usual(memory)),
                            _ => {}
                        }
                    }
                }
                FUNCTIONS => outline.functions = FunctionSectionReader::new(reader)?.count(),
                MEMORIES => {
                    for memory in MemorySectionReader::new(reader)? {
                        outline.memories.push(is_usual(memory?));
                    }
                }
                _ => {}
            }
        }
        Ok(outline)
    }

    fn is_usual(&self, memory: u32) -> bool {
        let index = usize::try_from(memory).ok();
        index.and_then(|index| self.memories.get(index)) == Some(&true)
    }
}

fn is_usual(memory: MemoryType) -> bool {
    !memory.memory64 && !memory.shared && memory.page_size_log2.is_none()
}

impl Added {
    /// Returns the number of the function that does the same in parts, if the instruction is one of those.
    pub(super) fn instead_of(&mut self, operator: &Operator<'_>, outline: &Outline) -> Option<u32> {
        let long = match *operator {
            Operator::MemoryFill { mem } => Long::Fill(mem),
            Operator::MemoryCopy { dst_mem, src_mem } => Long::Copy(dst_mem, src_mem),
            _ => return None,
        };
        let (Long::Fill(one) | Long::Copy(one, _)) = long;
        let (Long::Fill(other) | Long::Copy(_, other)) = long;
        if !outline.is_usual(one) || !outline.is_usual(other) {
            return None;
        }
        let known = self.0.iter().position(|it| *it == long);
        let index = known.unwrap_or_else(|| {
            self.0.push(long);
            self.0.len() - 1
        });
        Some(outline.imported + outline.functions + count(index))
    }

    pub(super) fn count(&self) -> u32 {
        count(self.0.len())
    }

    /// Returns a section with what belongs there of them, if anything does.
    pub(super) fn extend(
        &self,
        id: u8,
        content: &[u8],
        outline: &Outline,
    ) -> Result<Option<Vec<u8>>, BinaryReaderError> {
        let (more, entries) = match id {
            _ if self.0.is_empty() => return Ok(None),
            TYPES => {
                let mut entry = Vec::new();
                function_type(&mut entry);
                (1, entry)
            }
            FUNCTIONS => {
                let mut entries = Vec::new();
                for _ in &self.0 {
                    leb(outline.types, &mut entries);
                }
                (self.count(), entries)
            }
            _ => return Ok(None),
        };
        let mut reader = BinaryReader::new(content, 0);
        let before = reader.read_var_u32()?;
        let mut extended = Vec::with_capacity(content.len() + entries.len() + 5);
        leb(before.saturating_add(more), &mut extended);
        extended.extend_from_slice(reader.read_bytes(reader.bytes_remaining())?);
        extended.extend_from_slice(&entries);
        Ok(Some(extended))
    }

    /// Appends their code, each with its size.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        for long in &self.0 {
            long.function().encode(out);
        }
    }
}

impl Long {
    /// Parameters: where to, the value or where from, how many bytes.
    fn function(self) -> Function {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        match self {
            Self::Fill(memory) => {
                self.fail_if_outside(TO, memory, &mut code);
                self.ascend(&mut code);
            }
            Self::Copy(to, from) => {
                self.fail_if_outside(TO, to, &mut code);
                self.fail_if_outside(FROM, from, &mut code);
                // What lies over itself is moved from its far end.
                code.local_get(TO).local_get(FROM).i32_gt_u();
                code.if_(BlockType::Empty);
                self.descend(&mut code);
                code.else_();
                self.ascend(&mut code);
                code.end();
            }
        }
        code.end();
        function
    }

    fn fail_if_outside(self, start: u32, memory: u32, code: &mut InstructionSink<'_>) {
        code.local_get(start).i64_extend_i32_u();
        code.local_get(COUNT).i64_extend_i32_u();
        code.i64_add();
        code.memory_size(memory).i64_extend_i32_u();
        code.i64_const(PAGE).i64_mul();
        code.i64_gt_u();
        code.if_(BlockType::Empty);
        code.local_get(TO).local_get(FROM).local_get(COUNT);
        self.instruction(code);
        code.end();
    }

    /// From the first byte to the last.
    fn ascend(self, code: &mut InstructionSink<'_>) {
        code.loop_(BlockType::Empty);
        code.local_get(COUNT).i32_const(PART).i32_gt_u();
        code.if_(BlockType::Empty);
        code.local_get(TO).local_get(FROM).i32_const(PART);
        self.instruction(code);
        advance(TO, code);
        if matches!(self, Self::Copy(..)) {
            advance(FROM, code);
        }
        code.local_get(COUNT)
            .i32_const(PART)
            .i32_sub()
            .local_set(COUNT);
        code.br(1);
        code.end().end();
        code.local_get(TO).local_get(FROM).local_get(COUNT);
        self.instruction(code);
    }

    /// From the last byte to the first.
    fn descend(self, code: &mut InstructionSink<'_>) {
        code.loop_(BlockType::Empty);
        code.local_get(COUNT).i32_const(PART).i32_gt_u();
        code.if_(BlockType::Empty);
        code.local_get(COUNT)
            .i32_const(PART)
            .i32_sub()
            .local_set(COUNT);
        code.local_get(TO).local_get(COUNT).i32_add();
        code.local_get(FROM).local_get(COUNT).i32_add();
        code.i32_const(PART);
        self.instruction(code);
        code.br(1);
        code.end().end();
        code.local_get(TO).local_get(FROM).local_get(COUNT);
        self.instruction(code);
    }

    fn instruction(self, code: &mut InstructionSink<'_>) {
        match self {
            Self::Fill(memory) => code.memory_fill(memory),
            Self::Copy(to, from) => code.memory_copy(to, from),
        };
    }
}

fn advance(local: u32, code: &mut InstructionSink<'_>) {
    code.local_get(local)
        .i32_const(PART)
        .i32_add()
        .local_set(local);
}

/// Three numbers of 32 bits, and no result.
fn function_type(out: &mut Vec<u8>) {
    out.push(0x60);
    [ValType::I32; 3].as_slice().encode(out);
    out.push(0);
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The parameters. Of a fill the second is the value.
const TO: u32 = 0;
const FROM: u32 = 1;
const COUNT: u32 = 2;

/// Bytes that are moved at once: 1 MiB, under a millisecond, also where each page is touched for the first time.
const PART: i32 = 1 << 20;

/// Bytes of a page.
const PAGE: i64 = 1 << 16;

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use wasmparser::Validator;
    use wasmtime::{Config, Engine, Instance, Memory, Module, Store, Trap, UpdateDeadline};

    use super::*;
    use crate::checkpoints::insert;

    const TEXT: &str = r#"(module
        (type $unused (func (param i64)))
        (memory (export "a") 48) (memory (export "b") 48)
        (func (export "fill") (param i32 i32 i32)
            (memory.fill (local.get 0) (local.get 1) (local.get 2)))
        (func (export "within") (param i32 i32 i32)
            (memory.copy (local.get 0) (local.get 1) (local.get 2)))
        (func (export "across") (param i32 i32 i32)
            (memory.copy 1 0 (local.get 0) (local.get 1) (local.get 2))))"#;

    struct Machine {
        store: Store<()>,
        instance: Instance,
    }

    impl Machine {
        fn new(engine: &Engine, binary: &[u8]) -> Self {
            let module = Module::new(engine, binary).unwrap();
            let mut store = Store::new(engine, ());
            let instance = Instance::new(&mut store, &module, &[]).unwrap();
            let mut machine = Self { store, instance };
            for (name, step) in [("a", 7), ("b", 11)] {
                let memory = machine.memory(name);
                for (at, byte) in memory.data_mut(&mut machine.store).iter_mut().enumerate() {
                    let [low, ..] = (at * step / 13).to_le_bytes();
                    *byte = low;
                }
            }
            machine
        }

        fn memory(&mut self, name: &str) -> Memory {
            self.instance.get_memory(&mut self.store, name).unwrap()
        }

        fn call(&mut self, name: &str, (to, from, count): (u32, u32, u32)) -> Option<Trap> {
            let function = self
                .instance
                .get_typed_func::<(u32, u32, u32), ()>(&mut self.store, name);
            let called = function.unwrap().call(&mut self.store, (to, from, count));
            called
                .err()
                .map(|error| *error.downcast_ref::<Trap>().unwrap())
        }
    }

    #[test]
    fn parts_do_what_the_instruction_does() {
        let binary = wat::parse_str(TEXT).unwrap();
        let inserted = insert(&binary).unwrap();
        Validator::new().validate_all(&inserted).unwrap();
        let engine = Engine::default();
        let mut whole = Machine::new(&engine, &binary);
        let mut parts = Machine::new(&engine, &inserted);
        let part = PART.cast_unsigned();
        let size = 48 * 65536;
        let places = [
            0,
            1,
            5000,
            part - 1,
            part,
            part + 1,
            size - 1,
            size,
            size + 1,
            u32::MAX,
        ];
        let counts = [
            0,
            1,
            4097,
            part - 1,
            part,
            part + 1,
            2 * part,
            2 * part + 9,
            size,
            size + 1,
            u32::MAX,
        ];
        for name in ["fill", "within", "across"] {
            let mut failed = 0;
            for to in places {
                for from in places {
                    for count in counts {
                        let arguments = (to, from, count);
                        let outcome = whole.call(name, arguments);
                        assert_eq!(parts.call(name, arguments), outcome, "{name} {arguments:?}");
                        failed += u32::from(outcome.is_some());
                    }
                    for memory in ["a", "b"] {
                        let [one, other] = [&mut whole, &mut parts].map(|machine| {
                            let memory = machine.memory(memory);
                            memory.data(&machine.store)
                        });
                        assert!(one == other, "{name} to {to} from {from}: {memory}");
                    }
                }
            }
            assert!((1..1100).contains(&failed), "{name}: {failed}");
        }
    }

    /// Returns how often the time is looked at.
    fn looks(engine: &Engine, binary: &[u8], name: &str, count: u32) -> u32 {
        let looks = Arc::new(AtomicU32::new(0));
        let seen = looks.clone();
        let mut machine = Machine::new(engine, binary);
        machine.store.set_epoch_deadline(0);
        machine.store.epoch_deadline_callback(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(UpdateDeadline::Continue(0))
        });
        assert_eq!(machine.call(name, (1, 0, count)), None);
        looks.load(Ordering::Relaxed)
    }

    #[test]
    fn the_time_is_looked_at_between_parts() {
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config).unwrap();
        let binary = wat::parse_str(TEXT).unwrap();
        let inserted = insert(&binary).unwrap();
        let much = 2 * PART.cast_unsigned() + 1;
        for name in ["fill", "within", "across"] {
            let [before, after] = [&binary, &inserted]
                .map(|it| looks(&engine, it, name, much) - looks(&engine, it, name, 1));
            assert_eq!(before, 0, "{name}");
            assert!(after >= 2, "{name}: {after}");
        }
    }

    #[test]
    fn a_memory_of_another_kind_is_left_alone() {
        let text = "(module (memory i64 1) (func (memory.fill (i64.const 0) (i32.const 1) (i64.const 2))))";
        let binary = wat::parse_str(text).unwrap();
        // The look before it, and nothing else.
        assert_eq!(insert(&binary).unwrap().len(), binary.len() + 3);
    }
}
