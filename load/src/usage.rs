//! CPU time and memory of the relay's process.

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, Signal, System};

use crate::error::Error;

pub(crate) struct Usage {
    pid: Pid,
    system: System,
}

/// The usage of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// In user and kernel mode together, since the process started.
    pub(crate) cpu_millis: u64,
    /// Resident memory.
    pub(crate) bytes: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self, Error> {
        let mut usage = Self {
            pid: Pid::from_u32(pid),
            system: System::new(),
        };
        match usage.process() {
            Some(_) => Ok(usage),
            None => Err(Error::Failed(format!("there is no process {pid}"))),
        }
    }

    pub(crate) fn read(&mut self) -> Option<Reading> {
        self.process().map(|process| Reading {
            cpu_millis: process.accumulated_cpu_time(),
            bytes: process.memory(),
        })
    }

    /// Asks the process to exit.
    pub(crate) fn terminate(&mut self) {
        if let Some(process) = self.process() {
            // A process that has already ended needs no signal.
            let _ = process.kill_with(Signal::Term);
        }
    }

    fn process(&mut self) -> Option<&Process> {
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory();
        let which = [self.pid];
        let which = ProcessesToUpdate::Some(&which);
        self.system
            .refresh_processes_specifics(which, true, what.without_tasks());
        self.system.process(self.pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_process_0_does_not_exist() {
        let mut usage = Usage::of(std::process::id()).expect("we run");
        assert!(usage.read().expect("we run").bytes > 100_000);
        assert!(Usage::of(u32::MAX >> 1).is_err());
    }
}
