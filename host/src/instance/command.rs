//! A command's two callbacks.

use super::Instance;
use crate::{
    bindings::{exports::nethost::plugin::command_handler::Reaction, nethost::plugin::command},
    command::Signal,
    metrics::meters::Call,
};

impl Instance {
    /// Has the command begin. Does nothing if the plugin has none.
    pub(crate) fn start_command(&self, arguments: &[String]) {
        if let Some(handler) = &self.command_handler {
            self.callback(Call::Start, None, |store| {
                handler.call_start(store, arguments)
            });
        }
    }

    /// Tells the command of a signal, and returns whether that ends it.
    pub(crate) fn signalled(&self, signal: Signal) -> bool {
        let Some(handler) = &self.command_handler else {
            return true;
        };
        let told = match signal {
            Signal::Interrupt => command::Signal::Interrupt,
            Signal::Terminate => command::Signal::Terminate,
            Signal::Resized => command::Signal::Resized,
        };
        let reaction = self.callback(Call::Signalled, None, |store| {
            handler.call_signalled(store, told)
        });
        reaction == Some(Reaction::Ends) && signal != Signal::Resized
    }
}
