"""The course kit: editions of the series for students and lecturers, and a grader."""
