//! `export_plugin!`.

/// Exports a [`Protocol`](crate::Protocol) as the plugin that this crate is, once per crate.
///
/// | call | exports |
/// |---|---|
/// | `export_plugin!(Echo)` | streams |
/// | `export_plugin!(Echo, swap)` | streams; `Echo` implements [`Swap`](crate::Swap) |
/// | `export_plugin!(Echo, datagrams: Udp)` | streams, and datagrams; `Udp` is a [`DatagramProtocol`](crate::DatagramProtocol) with the same factory |
/// | `export_plugin!(Echo, swap, datagrams: Udp)` | all of it |
/// | `export_plugin!(datagrams: Udp)` | datagrams alone |
///
/// Natively it only checks the types, so that the same crate is a library for tests.
///
/// A component has one plugin: a crate that other plugins build on keeps its own call behind a default feature, which those turn off.
#[macro_export]
macro_rules! export_plugin {
    ($protocol:ty) => {
        $crate::__export!([Protocol] $protocol, (), PLUGIN, handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi);
    };
    ($protocol:ty, swap) => {
        $crate::__export!([Swap] $protocol, (), SWAPPABLE_PLUGIN, handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            swap_handler __export_nethost_plugin_swap_handler_0_1_0_cabi,
            session_swap_handler __export_nethost_plugin_session_swap_handler_0_1_0_cabi);
    };
    (datagrams: $datagrams:ty) => {
        $crate::export_plugin!($crate::DatagramsOnly<$datagrams>, datagrams: $datagrams);
    };
    ($protocol:ty, datagrams: $datagrams:ty) => {
        $crate::__check_datagrams!($protocol, $datagrams);
        $crate::__export!([Protocol] $protocol, $datagrams, DATAGRAM_PLUGIN, handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            datagram_handler __export_nethost_plugin_datagram_handler_0_1_0_cabi);
    };
    ($protocol:ty, swap, datagrams: $datagrams:ty) => {
        $crate::__check_datagrams!($protocol, $datagrams);
        $crate::__export!([Swap] $protocol, $datagrams, EVERYTHING, handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            datagram_handler __export_nethost_plugin_datagram_handler_0_1_0_cabi,
            swap_handler __export_nethost_plugin_swap_handler_0_1_0_cabi,
            session_swap_handler __export_nethost_plugin_session_swap_handler_0_1_0_cabi);
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

/// The world's encoding and the exports of its interfaces.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ([$bound:ident] $protocol:ty, $datagrams:ty, $world:ident, $($interface:ident $export:ident),+) => {
        const _: () = {
            const fn check<P: $crate::$bound>() {}
            check::<$protocol>();
        };

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated")]
        const _: () = {
            #[unsafe(link_section = concat!("component-type:nethost:", stringify!($world)))]
            #[used]
            static SECTION: [u8; $crate::sections::$world.len()] = $crate::sections::$world;
            type Plugin = $crate::glue::Plugin<$protocol, $datagrams>;
            $($crate::$export!(Plugin with_types_in $crate::bindings::exports::nethost::plugin::$interface);)+
        };
    };
}
