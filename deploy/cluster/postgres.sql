-- Whoever may connect may take the locks by which the nodes write one after the other, and speak in their channels. PostgreSQL
-- lets everybody connect; only lokid's role shall. Run it as the owner of the database, in that database.
DO $$ BEGIN EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$;
