"""Pictures of results, a file a theme: functions take a table and give a figure."""
