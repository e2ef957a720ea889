"""What an administrator can do: one function a verb, and the control socket."""
