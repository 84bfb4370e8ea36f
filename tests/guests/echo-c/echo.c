// Echo in C: sends back what it receives (RFC 862). `wit-bindgen c` made the names from the contract's.
#include <stdlib.h>
#include "stream_plugin.h"

struct exports_handler_session_t { transport_own_connection_t connection; };

bool exports_handler_connection_made(transport_own_connection_t connection, types_origin_t *origin, exports_handler_own_session_t *made) {
  exports_handler_session_t *self = malloc(sizeof *self);
  if (!self) abort();
  self->connection = connection;
  *made = exports_handler_session_new(self);
  types_origin_free(origin);
  return true;
}
// A callback owns its arguments; a call borrows them.
void exports_handler_method_session_data_received(exports_handler_session_t *self, stream_plugin_list_u8_t *data) {
  transport_method_connection_write(transport_borrow_connection(self->connection), data);
  stream_plugin_list_u8_free(data);
}
void exports_handler_method_session_read_closed(exports_handler_session_t *self) {
  transport_method_connection_close(transport_borrow_connection(self->connection));
}
void exports_handler_session_destructor(exports_handler_session_t *self) {
  transport_connection_drop_own(self->connection);
  free(self);
}
bool exports_handler_configure(stream_plugin_string_t *config, stream_plugin_string_t *error) { return stream_plugin_string_free(config), true; }
void exports_handler_draining(types_nanoseconds_t deadline) {}
void exports_handler_method_session_writable(exports_handler_session_t *self) {}
void exports_handler_method_session_connection_lost(exports_handler_session_t *self, types_close_reason_t *reason) { types_close_reason_free(reason); }
