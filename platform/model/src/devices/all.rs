//! All devices that a test has said something of.
#![forbid(unsafe_code)]

use std::sync::Arc;

use cofferdam::addr::SourceId;
use rustc_hash::FxHashMap;

use crate::devices::bridge::Bridge;
use crate::devices::buses::Buses;
use crate::devices::function::Function;
use crate::devices::late::LateWrite;

#[derive(Debug, Default)]
pub(crate) struct Devices {
    functions: FxHashMap<SourceId, Function>,
    buses: Arc<Buses>,
    bridges: Vec<Bridge>,
}

impl Devices {
    /// The bus numbers that functions are on.
    pub(crate) fn buses(&self) -> Arc<Buses> {
        self.buses.clone()
    }

    pub(crate) fn of(&mut self, source: SourceId) -> &mut Function {
        self.buses.note(source);
        self.functions.entry(source).or_default()
    }

    /// A new function is there in the place of another.
    pub(crate) fn replace(&mut self, source: SourceId) {
        self.buses.note(source);
        self.functions.insert(source, Function::default());
    }

    /// Resets all functions behind a bridge.
    pub(crate) fn reset_behind(&mut self, bridge: SourceId) {
        let behind = self.bridges.iter().find(|it| it.function == bridge);
        let functions = self.functions.iter_mut().filter(|(source, _)| behind.is_some_and(|it| it.is_above(**source)));
        functions.for_each(|(_, function)| function.reset_with_bus());
    }

    pub(crate) fn get(&self, source: SourceId) -> Option<&Function> {
        self.functions.get(&source)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (SourceId, &Function)> {
        self.functions.iter().map(|(source, function)| (*source, function))
    }

    pub(crate) fn bridges(&self) -> impl Iterator<Item = &Bridge> {
        self.bridges.iter()
    }

    pub(crate) fn add_bridge(&mut self, bridge: Bridge) {
        for (offset, value) in bridge.config() {
            self.of(bridge.function).set_config(offset, value);
        }
        self.bridges.push(bridge);
    }

    /// The bridge that is nearest above a function.
    pub(crate) fn port_above(&self, source: SourceId) -> Option<&Bridge> {
        self.bridges.iter().filter(|bridge| bridge.is_above(source)).max_by_key(|bridge| *bridge.buses.start())
    }

    /// The id that a request of `source` carries when it reaches a unit: each bridge on the way up may put another there.
    pub(crate) fn requester(&self, source: SourceId) -> SourceId {
        let (mut id, mut at) = (source, source);
        while let Some(bridge) = self.port_above(at) {
            (id, at) = (bridge.rename(id), bridge.function);
        }
        id
    }

    /// A register in configuration space: all ones where there is no function.
    pub(crate) fn config(&self, function: SourceId, offset: u16) -> u32 {
        self.get(function).map_or(u32::MAX, |function| function.shown(offset))
    }

    /// When the next late write is due.
    pub(crate) fn next_late(&self) -> Option<u64> {
        self.functions.values().filter_map(Function::next_late).min()
    }

    /// Takes a write that is due.
    pub(crate) fn take_late(&mut self, now: u64) -> Option<(SourceId, LateWrite)> {
        self.functions.iter_mut().find_map(|(source, function)| Some((*source, function.take_late(now)?)))
    }
}
