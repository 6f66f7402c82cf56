-- For whoever looks for what did not succeed: rare entries are found without reading all.
CREATE INDEX audit_not_done ON audit (outcome, seq) WHERE outcome <> 'success';
