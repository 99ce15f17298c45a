"""Results as text: terminal, HTML, JUnit, JSON, all drawn from one model."""
