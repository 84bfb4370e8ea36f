//! Looks whether a service would start, without starting it.

use std::sync::Arc;

use super::{Host, Protocol, ServiceError, ServiceSpec};
use crate::{
    instance::Instance,
    reactor::{CloseReason, Holdings},
};

impl Host {
    /// Makes an instance and configures it, and throws it away: what `configure` would do to the world is not done. Nothing is bound.
    pub(crate) async fn rehearse(&self, spec: ServiceSpec) -> Result<(), ServiceError> {
        let Protocol::Plugin { plugin, config } = spec.protocol else {
            return Ok(());
        };
        let service = spec.program.service.clone();
        let program = Arc::new(spec.program);
        let worker = self.workers.first().ok_or(ServiceError::WorkerEnded)?;
        worker
            .call(move |worker, rehearsed| {
                let holdings = Holdings::new(program, worker.clone(), Arc::default());
                let table = Instance::own_table(&plugin, &holdings);
                let staged = Instance::stage(plugin, holdings.clone(), &config, table).map(drop);
                holdings.finish(&CloseReason::Draining);
                // Who waits for it is gone only if the host goes.
                let _gone = rehearsed.send(staged);
            })
            .await
            .ok_or(ServiceError::WorkerEnded)?
            .map_err(|error| ServiceError::Start { service, error })
    }
}
