"""The paper's experiment at three scales: plan, jobs, results, page."""
