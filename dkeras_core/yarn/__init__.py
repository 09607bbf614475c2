"""YARN from the submitting side: configuration, ResourceManager REST, submission, following, explaining failures."""
