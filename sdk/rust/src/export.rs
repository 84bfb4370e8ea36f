//! `export_plugin!`.

/// Exports a [`Protocol`](crate::Protocol) as the plugin that this crate is, once per crate.
///
/// `export_plugin!(Echo)`, or `export_plugin!(Echo, swap)` if it implements [`Swap`](crate::Swap). Natively it only checks the types, so that
/// the same crate is a library for tests.
///
/// A component has one plugin: a crate that other plugins build on keeps its own call behind a default feature, which those turn off.
#[macro_export]
macro_rules! export_plugin {
    ($protocol:ty) => {
        $crate::__export!([Protocol] $protocol, PLUGIN, handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi);
    };
    ($protocol:ty, swap) => {
        $crate::__export!([Swap] $protocol, SWAPPABLE_PLUGIN, handler __export_nethost_plugin_handler_0_1_0_cabi,
            deferred_handler __export_nethost_plugin_deferred_handler_0_1_0_cabi,
            swap_handler __export_nethost_plugin_swap_handler_0_1_0_cabi,
            session_swap_handler __export_nethost_plugin_session_swap_handler_0_1_0_cabi);
    };
}

/// The world's encoding and the exports of its interfaces.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ([$bound:ident] $protocol:ty, $world:ident, $($interface:ident $export:ident),+) => {
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
            type Plugin = $crate::glue::Plugin<$protocol>;
            $($crate::$export!(Plugin with_types_in $crate::bindings::exports::nethost::plugin::$interface);)+
        };
    };
}
