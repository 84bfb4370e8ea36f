//! `command`: what surrounds a command, and its end.

use crate::{
    bindings::nethost::plugin::command::{
        Address, Host, Id, Opening as WitOpening, Output as WitOutput, StandardStream,
    },
    command::Output,
    imports::{convert, storage},
    instance::State,
    transport,
};

impl Host for State {
    fn read_input(&mut self, most: u32) -> wasmtime::Result<Id> {
        self.begin(0, move |holdings, id| holdings.read_input(id, most))
    }

    fn write(&mut self, to: WitOutput, data: Vec<u8>) -> wasmtime::Result<u32> {
        let console = self.holdings.console();
        let unwritten = console.map_or(0, |console| console.write(output(to), &data));
        Ok(u32::try_from(unwritten).unwrap_or(u32::MAX))
    }

    fn written(&mut self, to: WitOutput, unwritten: u32) -> wasmtime::Result<Id> {
        self.begin(0, move |holdings, id| {
            holdings.written(id, output(to), unwritten);
        })
    }

    fn open(&mut self, name: String, opening: WitOpening) -> wasmtime::Result<Id> {
        let opening = storage::convert_opening(opening);
        self.begin(name.len(), move |holdings, id| {
            holdings.open_named(id, name, opening);
        })
    }

    fn exit(&mut self, code: u8) -> wasmtime::Result<()> {
        self.perform(0, move |holdings| holdings.exit_command(code))
    }

    fn is_terminal(&mut self, of: StandardStream) -> wasmtime::Result<bool> {
        let console = self.holdings.console();
        Ok(console.is_some_and(|console| {
            let terminal = console.surroundings().terminal;
            match of {
                StandardStream::Input => terminal.is_input,
                StandardStream::Output => terminal.is_output,
                StandardStream::Error => terminal.is_error,
            }
        }))
    }

    fn terminal_size(&mut self) -> wasmtime::Result<Option<(u16, u16)>> {
        let console = self.holdings.console();
        Ok(console.and_then(|console| console.surroundings().terminal.size()))
    }

    fn is_command(&mut self) -> wasmtime::Result<bool> {
        Ok(self.holdings.console().is_some())
    }

    fn wants_colour(&mut self, to: WitOutput) -> wasmtime::Result<bool> {
        let console = self.holdings.console();
        Ok(console.is_some_and(|console| console.surroundings().terminal.wants_colour(output(to))))
    }

    fn name_servers(&mut self) -> wasmtime::Result<Vec<Address>> {
        let servers = self
            .holdings
            .console()
            .map(|console| console.surroundings().name_servers.iter());
        let servers = servers.into_iter().flatten().copied();
        Ok(servers
            .map(|server| convert::address(&transport::Address::Socket(server)))
            .collect())
    }
}

fn output(output: WitOutput) -> Output {
    match output {
        WitOutput::Standard => Output::Standard,
        WitOutput::Error => Output::Error,
    }
}
