"""What flows between the stages: records, errors, the base. At the bottom of the pipeline."""
