"""What takes part in a conversation: interactive systems, and the talkers and voices that they are made of.

reference    System: a talker and a generator, by name
results      finished turns of a system that cannot be run here
scripted chat omni    Talkers: the scenario's own facts; an OpenAI-compatible chat endpoint; Qwen3-Omni
speakers     text to speech: espeak-ng, any command, the builtin formant voice
"""
