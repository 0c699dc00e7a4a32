//! What the books tell about operations.

use crate::books::{query, query_charge, query_jobs, query_reports};
use crate::central::Central;
use crate::store::StoreError;
use crate::views::{
    Alarm, DeviceVariable, EventFilter, Jobs, Profiles, ReportState, Reservation, StationEvent,
    TransactionDetail, WholeReport,
};

impl Central {
    /// Whether a station is in the books: it sent a message once.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn knows(&self, tenant: &str, station: &str) -> Result<bool, StoreError> {
        self.of_station(tenant, station, false, |_, _| Ok(true)).await
    }

    /// Reports of a station and how far they are, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn reports(
        &self,
        tenant: &str,
        station: &str,
        limit: usize,
    ) -> Result<Vec<ReportState>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.to_owned());
        self.0.store.read(move |db| query_reports::reports(db, &tenant, &station, limit)).await
    }

    /// One report with the parts that are there.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn whole_report(
        &self,
        tenant: &str,
        station: &str,
        request: i64,
    ) -> Result<Option<WholeReport>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.to_owned());
        self.0.store.read(move |db| query_reports::whole_report(db, &tenant, &station, request)).await
    }

    /// The device model of a station of 2.x as its reports told it, or some of it by the names of component and
    /// variable.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn device_model(
        &self,
        tenant: &str,
        station: &str,
        component: Option<&str>,
        variable: Option<&str>,
    ) -> Result<Vec<DeviceVariable>, StoreError> {
        let (component, variable) = (component.map(str::to_owned), variable.map(str::to_owned));
        self.of_station(tenant, station, Vec::new(), move |db, number| {
            query_reports::device_model(db, number, component.as_deref(), variable.as_deref())
        })
        .await
    }

    /// What stations told by themselves, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn events(&self, tenant: &str, filter: EventFilter) -> Result<Vec<StationEvent>, StoreError> {
        let tenant = tenant.to_owned();
        self.0.store.read(move |db| query_reports::events(db, &tenant, &filter)).await
    }

    /// Jobs of a kind, `firmware` or `log`, of one station or of all, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn jobs(
        &self,
        tenant: &str,
        kind: &'static str,
        station: Option<&str>,
        limit: usize,
    ) -> Result<Jobs, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.map(str::to_owned));
        self.0.store.read(move |db| query_jobs::jobs(db, &tenant, kind, station.as_deref(), limit)).await
    }

    /// Reservations, of one station or of all, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn reservations(
        &self,
        tenant: &str,
        station: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Reservation>, StoreError> {
        let (tenant, station, now_ms) =
            (tenant.to_owned(), station.map(str::to_owned), self.0.clock.now_ms());
        self.0
            .store
            .read(move |db| query_jobs::reservations(db, &tenant, station.as_deref(), now_ms, limit))
            .await
    }

    /// The charging profiles of a station: those that it shall have, and those that it reported.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn profiles(&self, tenant: &str, station: &str) -> Result<Profiles, StoreError> {
        let none = Profiles { desired: Vec::new(), reported: Vec::new() };
        self.of_station(tenant, station, none, query_jobs::profiles).await
    }

    /// A transaction with all that belongs to it, by its number in the books or by the id that its station gave it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn transaction_detail(
        &self,
        tenant: &str,
        id: &str,
    ) -> Result<Option<TransactionDetail>, StoreError> {
        let (tenant, id) = (tenant.to_owned(), id.to_owned());
        self.0
            .store
            .read(move |db| match query_charge::find(db, &tenant, &id)? {
                Some(number) => query_charge::detail(db, number),
                None => Ok(None),
            })
            .await
    }

    /// What people should look at, of one station or of all, the latest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn alarms_of(
        &self,
        tenant: &str,
        station: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Alarm>, StoreError> {
        let (tenant, station) = (tenant.to_owned(), station.map(str::to_owned));
        self.0.store.read(move |db| query::alarms_of(db, Some(&tenant), station.as_deref(), limit)).await
    }
}
