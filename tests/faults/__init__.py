"""Fault runs: executors in processes of their own are killed or frozen under load, and every promise is checked after.

python -m tests.faults kill --executions 5000 --kills 20 --json
python -m tests.faults freeze --reclaims 60 --json
python -m tests.faults jobs --instances 1000 --seconds 60 --json
"""
