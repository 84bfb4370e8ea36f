//! `export_plugin!`.

/// Exports a [`Protocol`](crate::Protocol) as the plugin that this crate is, once per crate.
///
/// | call | exports |
/// |---|---|
/// | `export_plugin!(Echo)` | streams |
/// | `export_plugin!(Echo, swap)` | streams; `Echo` implements [`Snapshot`](crate::Snapshot), or [`Swap`](crate::Swap) |
/// | `export_plugin!(Echo, datagrams: Udp)` | streams, and datagrams; `Udp` is a [`DatagramProtocol`](crate::DatagramProtocol) with the same factory |
/// | `export_plugin!(Echo, swap, datagrams: Udp)` | all of it |
/// | `export_plugin!(datagrams: Udp)` | datagrams alone |
/// | `export_plugin!(..., command: Ask)` | any of these, and a command; `Ask` is a [`Command`](crate::command::Command) with the same factory |
/// | `export_plugin!(command: Ask)` | a command alone |
///
/// Natively it only checks the types, so that the same crate is a library for tests.
///
/// A component has one plugin: a crate that other plugins build on keeps its own call behind a default feature, which those turn off.
#[macro_export]
macro_rules! export_plugin {
    (command: $command:ty) => {
        $crate::export_plugin!($crate::command::CommandOnly<$command>, command: $command);
    };
    (datagrams: $datagrams:ty) => {
        $crate::export_plugin!($crate::DatagramsOnly<$datagrams>, datagrams: $datagrams);
    };
    (datagrams: $datagrams:ty, command: $command:ty) => {
        $crate::export_plugin!($crate::DatagramsOnly<$datagrams>, datagrams: $datagrams, command: $command);
    };
    ($protocol:ty) => {
        $crate::__export!([Protocol] $protocol, (), (), [PLUGIN], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi);
    };
    ($protocol:ty, command: $command:ty) => {
        $crate::__check_command!($protocol, $command);
        $crate::__export!([Protocol] $protocol, (), $command, [PLUGIN COMMAND_PART], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            command_handler __export_nethost_plugin_command_handler_0_1_0_cabi);
    };
    ($protocol:ty, datagrams: $datagrams:ty) => {
        $crate::__check_datagrams!($protocol, $datagrams);
        $crate::__export!([Protocol] $protocol, $datagrams, (), [DATAGRAM_PLUGIN], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            datagram_handler __export_nethost_plugin_datagram_handler_0_1_0_cabi);
    };
    ($protocol:ty, datagrams: $datagrams:ty, command: $command:ty) => {
        $crate::__check_datagrams!($protocol, $datagrams);
        $crate::__check_command!($protocol, $command);
        $crate::__export!([Protocol] $protocol, $datagrams, $command, [DATAGRAM_PLUGIN COMMAND_PART], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            datagram_handler __export_nethost_plugin_datagram_handler_0_1_0_cabi,
            command_handler __export_nethost_plugin_command_handler_0_1_0_cabi);
    };
    ($protocol:ty, swap) => {
        $crate::__export!([Swap] $protocol, (), (), [SWAPPABLE_PLUGIN], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            swap_handler __export_nethost_plugin_swap_handler_0_1_0_cabi,
            session_swap_handler __export_nethost_plugin_session_swap_handler_0_1_0_cabi);
    };
    ($protocol:ty, swap, command: $command:ty) => {
        $crate::__check_command!($protocol, $command);
        $crate::__export!([Swap] $protocol, (), $command, [SWAPPABLE_PLUGIN COMMAND_PART], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            swap_handler __export_nethost_plugin_swap_handler_0_1_0_cabi,
            session_swap_handler __export_nethost_plugin_session_swap_handler_0_1_0_cabi,
            command_handler __export_nethost_plugin_command_handler_0_1_0_cabi);
    };
    ($protocol:ty, swap, datagrams: $datagrams:ty) => {
        $crate::__check_datagrams!($protocol, $datagrams);
        $crate::__export!([Swap] $protocol, $datagrams, (), [DATAGRAM_SWAPPABLE_PLUGIN], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            datagram_handler __export_nethost_plugin_datagram_handler_0_1_0_cabi,
            swap_handler __export_nethost_plugin_swap_handler_0_1_0_cabi,
            session_swap_handler __export_nethost_plugin_session_swap_handler_0_1_0_cabi);
    };
    ($protocol:ty, swap, datagrams: $datagrams:ty, command: $command:ty) => {
        $crate::__check_datagrams!($protocol, $datagrams);
        $crate::__check_command!($protocol, $command);
        $crate::__export!([Swap] $protocol, $datagrams, $command, [DATAGRAM_SWAPPABLE_PLUGIN COMMAND_PART], handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            datagram_handler __export_nethost_plugin_datagram_handler_0_1_0_cabi,
            swap_handler __export_nethost_plugin_swap_handler_0_1_0_cabi,
            session_swap_handler __export_nethost_plugin_session_swap_handler_0_1_0_cabi,
            command_handler __export_nethost_plugin_command_handler_0_1_0_cabi);
    };
}

/// The two protocols share a factory.
#[doc(hidden)]
#[macro_export]
macro_rules! __check_datagrams {
    ($protocol:ty, $datagrams:ty) => {
        const _: () = {
            const fn check<P, D>()
            where
                P: $crate::Protocol,
                D: $crate::DatagramProtocol<Factory = P::Factory>,
            {
            }
            check::<$protocol, $datagrams>();
        };
    };
}

/// The command and the protocol share a factory.
#[doc(hidden)]
#[macro_export]
macro_rules! __check_command {
    ($protocol:ty, $command:ty) => {
        const _: () = {
            const fn check<P, C>()
            where
                P: $crate::Protocol,
                C: $crate::command::Command<Factory = P::Factory>,
            {
            }
            check::<$protocol, $command>();
        };
    };
}

/// The worlds' encodings, which are merged into one, and the exports of their interfaces.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ([$bound:ident] $protocol:ty, $datagrams:ty, $command:ty, [$($world:ident)+], $($interface:ident $export:ident),+) => {
        const _: () = {
            const fn check<P: $crate::$bound>() {}
            check::<$protocol>();
        };

        $(
            #[cfg(target_arch = "wasm32")]
            #[allow(unsafe_code, reason = "generated")]
            const _: () = {
                #[unsafe(link_section = concat!("component-type:nethost:", stringify!($world)))]
                #[used]
                static SECTION: [u8; $crate::sections::$world.len()] = $crate::sections::$world;
            };
        )+

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated")]
        const _: () = {
            type Plugin = $crate::glue::Plugin<$protocol, $datagrams, $command>;
            $($crate::$export!(Plugin with_types_in $crate::bindings::exports::nethost::plugin::$interface);)+
        };
    };
}
