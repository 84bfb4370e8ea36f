//! `storage`: the files that a service was granted.

use wasmtime::component::Resource;

use super::convert;
use crate::{
    bindings::nethost::plugin::storage::{Error, Host, HostFile as FileMethods},
    files::HostFile,
    instance::State,
    reactor::{ErrorKind, OperationError},
};

impl Host for State {
    fn named_file(&mut self, name: String) -> wasmtime::Result<Result<Resource<HostFile>, Error>> {
        let program = self.holdings.program();
        let Some(file) = program.grants.files.get(&name) else {
            let message = format!(
                "no file is granted as `{}`; the operator may grant one with --file",
                name.escape_debug()
            );
            let error = OperationError::new(ErrorKind::Denied, message);
            return Ok(Err(convert::error(error)));
        };
        let limit = program.limits.open_files;
        if self.files.len() >= limit {
            let message = format!("{limit} files are open");
            let error = OperationError::new(ErrorKind::Limit, message);
            return Ok(Err(convert::error(error)));
        }
        let index = self.files.insert(file.clone());
        Ok(Ok(Resource::new_own(u32::try_from(index)?)))
    }
}

impl FileMethods for State {
    fn size(&mut self, handle: Resource<HostFile>) -> wasmtime::Result<Result<u64, Error>> {
        let size = self.file(&handle)?.size();
        Ok(size.map_err(|error| convert::error(error.into())))
    }

    fn drop(&mut self, handle: Resource<HostFile>) -> wasmtime::Result<()> {
        self.files.try_remove(usize::try_from(handle.rep())?);
        Ok(())
    }
}
